# One image for CPU: docker build -f docker/cpu.Dockerfile -t oscar-flow .
# Smaller, where PyTorch's own index can be reached: --build-arg TORCH_BACKEND=cpu
FROM python:3.12-slim-bookworm
ARG TORCH_BACKEND=
ENV PYTHONUNBUFFERED=1
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make env TORCH_BACKEND=${TORCH_BACKEND}
ENV PATH=/app/.venv/bin:$PATH
ENTRYPOINT ["oscar-flow"]
CMD ["--help"]
