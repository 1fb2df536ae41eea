# The gateway over HTTP, as a user without rights and on a file system that may be read-only.
# How it is run, and what of this was tried: deploy/README.md

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY providers providers
COPY gateway gateway
RUN python -m pip wheel --no-deps --wheel-dir wheels . \
    && python -m venv --without-pip /opt/scheduling-gateway \
    && python -m pip --python /opt/scheduling-gateway/bin/python install --constraint constraints.txt \
        "$(ls wheels/*.whl)[postgresql]"

FROM python:3.13-slim
# The folder is for an SQLite database on a volume; with PostgreSQL nothing is written anywhere.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent gateway \
    && install --directory --mode 0700 --owner gateway --group gateway /var/lib/scheduling-gateway
COPY --from=build /opt/scheduling-gateway /opt/scheduling-gateway
ENV PATH=/opt/scheduling-gateway/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SCHEDULING_GATEWAY_CONFIG=/etc/scheduling-gateway/config.yaml
# As a number, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 8080
# Not by urllib, which would ask the proxy that the environment may name.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["scheduling-gateway"]
CMD ["serve", "--host", "0.0.0.0"]
