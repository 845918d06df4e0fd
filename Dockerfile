# gfield and train in an image: docker build -t gfield .                          without CUDA
#                               docker build -t gfield-gpu --build-arg DEVICE=cuda .
# Nothing in it needs the network once it is built, nor root: docs/installation.md has how to run it.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG DEVICE=cpu
ARG EXTRAS=train,export
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The compiler stays in this stage. Its version is that of the base image's release of Debian.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/gfield
ENV PATH=/opt/gfield/bin:$PATH
# Torch first: PyPI's wheels bring gigabytes of CUDA, which a machine without a card has no use for. Which
# versions fit, pyproject.toml says below.
# hadolint ignore=DL3013
RUN case "$DEVICE" in \
      cpu) pip install --index-url https://download.pytorch.org/whl/cpu torch torchvision ;; \
      cuda) pip install torch torchvision ;; \
      *) echo "DEVICE is $DEVICE, wanted cpu or cuda" >&2; exit 1 ;; \
    esac
WORKDIR /source
COPY . .
# opencv-python-headless is among gfield's own requirements, so that no library of a desktop is wanted below.
# hadolint ignore=DL3013
RUN pip install ".[$EXTRAS]" && gfield --version && train --version

FROM python:${PYTHON}-slim
COPY --from=build /opt/gfield /opt/gfield
RUN useradd --uid 1000 --create-home gfield && install --directory --owner gfield /data
ENV PATH=/opt/gfield/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /data
ENTRYPOINT ["gfield"]
CMD ["--help"]
