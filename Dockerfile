# One image for all roles. `make image` builds it offline: .build/wheels holds every package as a
# wheel (pinned by requirements.lock) and BASE is a Debian made on the spot. Elsewhere, after
# `make wheels`: docker build --build-arg BASE=python:3.11-slim-bookworm .
ARG BASE=localhost/nexus-base:2

# hadolint ignore=DL3006
FROM ${BASE} AS build
COPY requirements.lock /build/
COPY .build/wheels /build/wheels/
RUN python3 -m venv /opt/nexus \
 && /opt/nexus/bin/pip install --no-cache-dir --no-index --find-links /build/wheels \
      --require-hashes --requirement /build/requirements.lock \
 && /opt/nexus/bin/pip install --no-cache-dir --no-index --no-deps /build/wheels/nexus_cos-*.whl \
 && /opt/nexus/bin/pip uninstall --yes --quiet pip setuptools

# hadolint ignore=DL3006
FROM ${BASE}
COPY --from=build /opt/nexus /opt/nexus
COPY --chmod=0755 ops/deploy/start /opt/nexus/bin/start
# PostgreSQL wants a name for the user that it runs as, and a place that outlives the container.
RUN echo nexus:x:10001:10001::/var/lib/nexus-cos:/usr/sbin/nologin >>/etc/passwd \
 && install -d -m 0700 -o 10001 -g 10001 /var/lib/nexus-cos
ENV PATH=/opt/nexus/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    NEXUS_STATE_DATA_DIR=/var/lib/nexus-cos \
    NEXUS_EDGE_LISTEN=0.0.0.0:8080
WORKDIR /tmp
USER 10001:10001
VOLUME /var/lib/nexus-cos
EXPOSE 8080/tcp 8189-8192/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
ENTRYPOINT ["start"]
CMD ["up", "--no-demo"]
