# One image for NVIDIA GPUs, with detectron2 for cross-checks. PyPI's torch carries its CUDA libraries.
FROM python:3.12-slim-bookworm
ENV UV_PYTHON_DOWNLOADS=never PYTHONUNBUFFERED=1 DO_NOT_TRACK=1
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make env
# Pure Python on the path, not compiled: what the cross-checks need works without its C++ part.
RUN git clone https://github.com/facebookresearch/detectron2 /opt/detectron2 \
    && git -C /opt/detectron2 checkout 02b5c4e295e990042a714712c21dc79b731e8833
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/opt/detectron2
ENTRYPOINT ["oscar-flow"]
CMD ["--help"]
