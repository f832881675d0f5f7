# Image for NVIDIA GPUs: docker build -f docker/gpu.Dockerfile -t oscar-flow:gpu .
# PyPI's torch carries its CUDA libraries; the host needs a driver of CUDA 13 and NVIDIA's container
# toolkit. detectron2 is there for those who compare with it; nothing of oscar-flow needs it.
FROM python:3.12.14-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254 AS program
ENV PYTHONUNBUFFERED=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
RUN useradd --create-home --uid 10001 oscar && install -d -o oscar -g oscar /srv /srv/runs
WORKDIR /app
COPY . .
RUN .ci/install '[pretrained,s3,ray]'

FROM program AS detectron2
# Debian's bookworm takes fixes only, so its packages need no version here.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ git && rm -rf /var/lib/apt/lists/*
RUN docker/build_detectron2 /wheels

FROM program
ARG REVISION=unknown
LABEL org.opencontainers.image.title=oscar-flow org.opencontainers.image.revision=${REVISION}
RUN --mount=from=detectron2,source=/wheels,target=/wheels \
    .venv/bin/uv pip install -p .venv/bin/python --compile-bytecode --no-deps \
    -r docker/detectron2.txt /wheels/*.whl
ENV PATH=/app/.venv/bin:$PATH NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER 10001:10001
WORKDIR /srv
ENTRYPOINT ["oscar-flow"]
CMD ["--help"]
