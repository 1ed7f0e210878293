FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# The lock first: it changes less often than the code, and it is what takes long. On a machine without a GPU
# requirements-cpu.txt is enough, as compose takes it: the same versions without what only a GPU needs.
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} ./requirements.txt
RUN pip install --no-cache-dir --no-deps -r requirements.txt

COPY LICENSE README.md pyproject.toml docker-entrypoint.sh ./
COPY clipdiy ./clipdiy
COPY backend ./backend
COPY label_config ./label_config

# Its commands (clipdiy, clipdiy-ls, clipdiy-doctor) come onto the PATH, and the service can say its version. What runs
# are the files above.
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .

# A new volume takes over the owner of the folder it is mounted on.
RUN useradd --uid 10001 --create-home clipdiy \
    && install --directory --owner clipdiy --group clipdiy /weights /data
USER clipdiy

# Inside a container every interface; which of the host's it is published on is the host's to say.
ENV PYTHONPATH=/app \
    CLIPDIY_BIND=0.0.0.0:9090 \
    CLIPDIY_PRESET=paper \
    CLIPDIY_WEIGHTS_DIR=/weights \
    CLIPDIY_DATA_DIR=/data
VOLUME ["/weights", "/data"]
EXPOSE 9090

# The first start downloads the weights: long, and no reason to call it unhealthy.
HEALTHCHECK --interval=15s --timeout=5s --retries=4 --start-period=1h \
    CMD ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:9090/health', timeout=4)"]

ENTRYPOINT ["sh", "/app/docker-entrypoint.sh"]
CMD ["gunicorn", "--config", "python:backend.gunicorn_conf", "backend._wsgi:app"]
