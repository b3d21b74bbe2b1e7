"""Know which conda packages pip has too, and under which name."""

from __future__ import annotations

_SAME = """
absl-py accelerate aiohttp albumentations altair anndata anyio attrs beautifulsoup4 black bokeh
boto3 botocore catboost certifi cffi chardet charset-normalizer click cloudpickle colorama
coverage cryptography cvxpy cython dash datasets dill diffusers duckdb einops fastapi fastparquet
filelock flake8 flask flax fsspec gensim geopandas gitpython gradio grpcio gymnasium h5py
hydra-core hyperopt idna imageio imbalanced-learn ipykernel ipython ipywidgets jax jinja2 joblib
jsonschema jupyter jupyterlab keras langchain librosa lightgbm lightning llvmlite loguru lxml
markdown markupsafe matplotlib mlflow mpmath mypy nbconvert nbformat networkx nibabel nilearn nltk
notebook numba numexpr numpy omegaconf onnx onnxruntime openai opencv-python openpyxl optax optuna
orjson packaging pandas patsy peft pillow pip-tools plotly polars pooch pre-commit protobuf psutil
psycopg2-binary pyarrow pydantic pygments pymongo pymysql pyparsing pytest pytest-cov
python-dateutil python-dotenv pytorch-lightning pytz pywavelets pyyaml pyzmq rasterio regex
requests rich safetensors scanpy scikit-image scikit-learn scipy seaborn sentence-transformers
sentencepiece setuptools shap shapely six spacy sqlalchemy statsmodels streamlit sympy tabulate
tensorboard tensorboardx tensorflow tensorflow-datasets threadpoolctl tifffile tiktoken timm
tokenizers torchaudio torchmetrics torchvision tornado tqdm transformers typer typing-extensions
typing_extensions ujson umap-learn urllib3 uvicorn wandb webdataset wheel xarray xgboost xlrd
xlsxwriter zarr
"""

# The same project under the same name on PyPI and on conda-forge. Not `graphviz`: conda's is the
# program, whose versions pip's package of that name, a binding, never had.
OF_PIP = frozenset(_SAME.split())

RENAMED = {
    "dask-core": "dask",
    "docker-py": "docker",
    "faiss": "faiss-cpu",
    "faiss-cpu": "faiss-cpu",
    "huggingface_hub": "huggingface-hub",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python-headless",
    "prompt_toolkit": "prompt-toolkit",
    "psycopg2": "psycopg2-binary",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "pytables": "tables",
    "python-graphviz": "graphviz",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "ray-core": "ray",
    "ray-default": "ray[default]",
    "ray-tune": "ray[tune]",
    "redis-py": "redis",
    "ruamel.yaml": "ruamel-yaml",
    "seaborn-base": "seaborn",
    "tensorflow-base": "tensorflow",
    "tensorflow-gpu": "tensorflow",
}

_SYSTEM = """
_libgcc_mutex _openmp_mutex blas bzip2 c-ares ca-certificates freetype gmp icu intel-openmp jpeg
krb5 lcms2 ld_impl_linux-64 lerc libblas libbrotlicommon libbrotlidec libbrotlienc libcblas libcurl
libdeflate libedit libev libexpat libffi libgcc libgcc-ng libgfortran libgfortran-ng libgfortran5
libgomp libiconv libjpeg-turbo liblapack liblzma libnghttp2 libnsl libopenblas libpng libsodium
libsqlite libssh2 libstdcxx libstdcxx-ng libtiff libuuid libuv libwebp libwebp-base libxcb
libxcrypt libxml2 libzlib llvm-openmp lz4-c mkl mkl-service mkl_fft mkl_random mpc mpfr ncurses
nomkl openjpeg openssl pip python_abi pytorch-mutex readline sqlite tbb tk tzdata xz yaml zlib zstd
"""

# Libraries and tools that a wheel brings itself or the base has: an exported environment lists
# them all, and none is a wish of the user's. CUDA is not among them: which one is a real wish.
OF_THE_SYSTEM = frozenset(_SYSTEM.split())
