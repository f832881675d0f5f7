# One image for CPU: docker build -f docker/cpu.Dockerfile -t oscar-flow .
FROM python:3.12-slim-bookworm
ENV UV_PYTHON_DOWNLOADS=never PYTHONUNBUFFERED=1 DO_NOT_TRACK=1
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make env
ENV PATH=/app/.venv/bin:$PATH
ENTRYPOINT ["oscar-flow"]
CMD ["--help"]
