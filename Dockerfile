# An image for GPU nodes, based on Ray's own so that `rankone up` and KubeRay find what they expect.
# It was written without Docker or a GPU at hand: nobody has built it yet. Please report what you had to change.
#
#     docker build -t rankone .
#     docker run --gpus all --shm-size 16g rankone train examples/addition.toml
FROM rayproject/ray:2.60.0-py312-gpu

USER root
WORKDIR /opt/rankone
COPY pyproject.toml README.md LICENSE ./
COPY rl rl
COPY rollout rollout
COPY rewards rewards
COPY lora lora
COPY examples examples
# Copied, not editable: every node must run the same code.
RUN pip install --no-cache-dir uv \
    && uv pip install --system --no-cache --torch-backend=auto '.[gpu]'
USER ray
WORKDIR /home/ray
ENV HF_HUB_OFFLINE=0
ENTRYPOINT ["rankone"]
CMD ["--help"]
