# The app in a container, for the CPU or for NVIDIA GPUs; the same image runs Dask schedulers and workers.
#
#   docker build -t deepleak .
#   docker build -t deepleak:cuda --build-arg DEVICE=cuda .
#   docker run -p 127.0.0.1:8501:8501 -v deepleak:/data deepleak
#
# docs/deployment.md says more; compose.yaml adds PostgreSQL.

ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS packages
# cpu takes PyTorch without CUDA, which is several GB smaller; cuda takes PyPI's, which brings CUDA along.
ARG DEVICE=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt ./
RUN grep -E '^torch(vision)?>' requirements.txt >torch.txt && case "$DEVICE" in \
        cpu) pip install --no-cache-dir -r torch.txt --index-url "$TORCH_CPU_INDEX" ;; \
        cuda) ;; \
        *) echo "DEVICE was $DEVICE; accepted are cpu and cuda." >&2; exit 1 ;; \
    esac
RUN pip install --no-cache-dir -r requirements.txt "psycopg[binary]>=3.2"

FROM ${BASE}
RUN useradd --uid 1000 --create-home --shell /usr/sbin/nologin deepleak \
    && install --directory --owner deepleak /data
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY app.py ./
COPY .streamlit .streamlit
COPY deepleak_core deepleak_core
COPY ui ui
COPY pages pages
COPY assets assets
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_HEADLESS=true \
    DEEPLEAK_DB=sqlite:////data/runs.sqlite \
    DEEPLEAK_DATA=/data \
    DEEPLEAK_LOG=json
USER 1000
VOLUME /data
EXPOSE 8501
# Whether the server lives; /health also says whether it can work, which a restart would not change.
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["python", "-m", "streamlit", "run", "app.py"]
