# The image of every role: `docker build --tag rater .`. docs/image.md says what is in it, how it is run, and what of it was tried.
#
# The base is named by tag and digest, so a tag that is moved changes nothing; Dependabot brings newer ones. This one stands
# for all stages: they share its Python, and what the last stage removes is all by which they differ.
FROM docker.io/library/python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS base

FROM base AS build
# Of all files written here the time is this, so that two builds of one commit have the same bytes. The release sets it
# to the commit's time; 2020 else, as zip files know no 1970.
ARG SOURCE_DATE_EPOCH=1577836800
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONHASHSEED=0
WORKDIR /build
# What builds, by hash, in a venv that stays behind in this stage.
COPY deploy/image/build.lock ./
RUN python3 -m venv /build/tools \
    && /build/tools/bin/python -m pip install --require-hashes --only-binary :all: --requirement build.lock
# What rater needs, by hash. All of it comes as wheels, but Faust on arm64: that is built by the tools above, without
# a compiler and so as plain Python.
COPY deploy/image/requirements.lock ./
RUN /build/tools/bin/python -m pip wheel --require-hashes --no-build-isolation --no-deps \
        --wheel-dir /build/wheels --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY rater rater
COPY collectors collectors
COPY deploy/__init__.py deploy/
COPY deploy/local deploy/local
RUN /build/tools/bin/python -m pip wheel --no-build-isolation --no-deps --no-index --wheel-dir /build/wheels .
# Nothing is fetched from here on. Bytecode is made now, because the file system is read-only later, and is never
# compared with its source, whose time means nothing here.
RUN python3 -m venv --without-pip /opt/rater \
    && /build/tools/bin/python -m pip --python /opt/rater/bin/python install --no-index --no-deps --no-compile \
        /build/wheels/*.whl \
    && find /opt/rater -name direct_url.json -delete \
    && mkdir -p /opt/rater/share/rater \
    && /build/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
        --output-file /opt/rater/share/rater/sbom.cdx.json /opt/rater/bin/python \
    && cp LICENSE /opt/rater/share/rater/ \
    && python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/rater/lib \
    && find /opt/rater -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM base
ARG VERSION=0.0.0+local
ARG REVISION=unknown
ARG CREATED=2020-01-01T00:00:00Z
LABEL org.opencontainers.image.title="rater" \
      org.opencontainers.image.description="Streaming rating and chargeback: no silent hole, no double count, exact prices" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/rater/rater" \
      org.opencontainers.image.documentation="https://github.com/rater/rater/blob/main/docs/image.md" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13.15-slim-trixie" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      io.github.rater.sbom="/opt/rater/share/rater/sbom.cdx.json"
# What installs packages goes, and an attacker finds nothing to install with. The user is written by hand: useradd would
# note the day.
RUN python3 -m pip uninstall --yes --quiet --root-user-action ignore pip \
    && rm -rf "$(python3 -c 'import ensurepip, pathlib; print(pathlib.Path(ensurepip.__file__).parent)')" \
    && rm -rf /root/.cache \
    && echo 'rater:x:10001:10001:rater:/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'rater:x:10001:' >> /etc/group
COPY --from=build /opt/rater /opt/rater
ENV HOME=/tmp \
    PATH=/opt/rater/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["rater"]
CMD ["--help"]
