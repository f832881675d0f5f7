# One image for NVIDIA GPUs (docker run --gpus all): PyPI's torch carries its CUDA libraries.
# docker build -f docker/gpu.Dockerfile -t oscar-flow:gpu .
FROM python:3.12-slim-bookworm
ENV PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make env
ENV PATH=/app/.venv/bin:$PATH
ENTRYPOINT ["oscar-flow"]
CMD ["--help"]
