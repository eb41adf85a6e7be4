# syntax=docker/dockerfile:1
# The image of order-sync: what requirements-image.lock names and the program, nothing that builds or tests it.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements-image.lock requirements-build.lock ./
# Wheels only: the image has no compiler, and neither has this stage.
RUN python -m venv /opt/order-sync \
 && /opt/order-sync/bin/python -m pip install --require-hashes --only-binary :all: -r requirements-image.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --require-hashes --only-binary :all: -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY daemon daemon
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/order-sync/bin/python -m pip install --no-deps --no-index --find-links /wheels northbeam-order-sync \
 && /opt/order-sync/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/order-sync \
 && /opt/order-sync/bin/python -m pip uninstall -q -y pip

FROM python:${PYTHON}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="order-sync" \
      org.opencontainers.image.description="Keeps Northbeam's orders equal to the orders of your OMS." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/order-sync /opt/order-sync
ENV PATH=/opt/order-sync/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 9108
STOPSIGNAL SIGTERM
# No shell before it: the daemon is process 1 and gets the signal. Health is the orchestrator's to ask (/livez, /readyz).
ENTRYPOINT ["/opt/order-sync/bin/order-sync"]
CMD ["run"]
