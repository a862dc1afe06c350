# Makes artifacts in CI, for the CPU target and bundles (--lower-only) for Neuron targets:
#   docker build -t neuronc .
#   docker run --rm -v "$PWD:/builds" -v neuronc-cache:/cache neuronc build neuronc.toml --shard 1/2
# The image runs as user 1000; add --user "$(id -u):$(id -g)" where the folder is another user's.
#
# neuronx-cc is not in it: it comes from AWS's own package index, under AWS's licence. For NEFFs make
# an image of this one, with the version that your runtime wants:
#   FROM neuronc
#   USER root
#   RUN pip install --extra-index-url https://pip.repos.neuron.amazonaws.com neuronx-cc==VERSION
#   USER 1000:1000
# neuronc doctor then says whether it is found.
FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    NEURONC_CACHE=/cache

WORKDIR /src
# First and alone, so that a change of the package does not fetch it again; from this index without CUDA.
RUN pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE ./
COPY neuronc ./neuronc
# The package is this one, and pins what decides its output.
# hadolint ignore=DL3013
RUN pip install '.[gguf,http,s3]' \
    && useradd --create-home --uid 1000 neuronc \
    && mkdir /builds /cache \
    && chown neuronc:neuronc /builds /cache

USER 1000:1000
WORKDIR /builds
VOLUME ["/cache"]
RUN neuronc version
ENTRYPOINT ["neuronc"]
CMD ["--help"]
