# Image for CPU: docker build -f docker/cpu.Dockerfile -t oscar-flow:cpu .
# Smaller, where PyTorch's own index can be reached: --build-arg TORCH_BACKEND=cpu
FROM python:3.12.14-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254
ARG TORCH_BACKEND=
ARG REVISION=unknown
LABEL org.opencontainers.image.title=oscar-flow org.opencontainers.image.revision=${REVISION}
ENV PYTHONUNBUFFERED=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never

# The program belongs to root and is not written to; runs go to /srv, which belongs to oscar.
RUN useradd --create-home --uid 10001 oscar && install -d -o oscar -g oscar /srv /srv/runs
WORKDIR /app
COPY . .
RUN .ci/install '[pretrained,s3,ray]' "${TORCH_BACKEND}"
ENV PATH=/app/.venv/bin:$PATH

USER 10001:10001
WORKDIR /srv
ENTRYPOINT ["oscar-flow"]
CMD ["--help"]
