"""Know which package of the index brings a module, by a table that people have checked.

Nothing outside this table is ever installed for an import: a name that somebody else registered on
the index is how malicious packages get in. A module belongs here only when its project's own
documentation installs that package for it; one that several packages bring (`cupy`, `clip`) or that
a stranger holds on the index (`apex`, `detectron2`) does not, and stays a question.
"""

from __future__ import annotations

import re

# Modules whose package is called the same (a `_` in it is a `-` on the index).
_SAME = """
accelerate adlfs aenum aim aiobotocore aiofiles aiohttp aiomysql aiosqlite albumentations ale_py
alembic alibi alibi_detect altair anndata annoy anthropic anyio anytree apscheduler arch
argcomplete arrow arviz ase asteroid astropy asyncpg audiomentations audioread augly autograd av
backoff basicsr beartype bertopic bitarray bitsandbytes black blosc blosc2 bm25s bokeh boltons
boto3 botocore bottleneck braceexpand brian2 brotli cairosvg captum cartopy casadi catalogue
catboost causalml causalnex celery cellpose certifi cffi cftime chainer chaospy chardet
charset_normalizer chemprop chromadb chumpy clearml click cloudinary cloudpickle clu cma cohere
colorama colorcet coloredlogs colorlog comet_ml compressai confection configargparse
confluent_kafka contextily contractions cooler coremltools cryptography csbdeep curl_cffi cvxopt
cvxpy cycler cymem dacite dagster darts dask dataclasses_json datasets dateparser deap decorator
decord deepchem deepdiff deepface deeplake deepspeed defusedxml detoxify dgl diffrax diffusers dill
dipy diskcache distrax distributed django dlib dm_control dm_env docker docopt docplex docutils
docx2txt dowhy dspy duckdb dvc e3nn earthaccess easydict easyocr econml ecos editdistance edlib
einops einops_exts einx ekphrasis elasticsearch emcee emoji equinox evaluate evidently evosax
exceptiongroup executing face_recognition facenet_pytorch fairscale fairseq faker fastai fastapi
fastavro fastcore fastdtw fastparquet fasttext feedparser fiftyone filelock filetype filterpy fiona
fire flair flaml flash_attn flashtext flask flask_cors flask_sqlalchemy flax folium freezegun
fsspec ftfy fugashi fugue funasr future fvcore galois gcsfs gdown gensim geojson geopandas geopy
gevent ginza gluoncv gluonnlp gluonts gmpy2 google_auth_oauthlib google_benchmark google_crc32c
gpflow gplearn gpytorch gradio graphene graphviz greenlet grequests groq grpclib gspread gtts
guidance gunicorn gurobipy gym gymnasium gymnasium_robotics h2o h5netcdf h5py hdbscan healpy
highspy hmmlearn hnswlib holidays holoviews horovod html2text html5lib httplib2 httpx
huggingface_hub humanfriendly humanize hvplot hyperopt hypothesis idna igraph imagecodecs imagehash
imageio imageio_ffmpeg imgaug immutabledict imutils inflect inflection insightface instructor
interpret ipdb ipykernel ipywidgets ir_datasets isodate isort itk itsdangerous janome jax jaxlib
jaxopt jaxtyping jedi jellyfish jieba jinja2 jiwer jmespath joblib jsonargparse jsonlines
jsonpickle jsonschema julius jupyter jupyterlab jupytext kaggle kagglehub keras keras_cv keras_hub
keras_nlp keras_tuner keybert keyring kfp konlpy kornia kornia_rs kubernetes langchain
langchain_anthropic langchain_community langchain_core langchain_google_genai langchain_huggingface
langchain_openai langchain_text_splitters langdetect langgraph langid langsmith
language_tool_python lark lazy_loader ldap3 libcst librosa lifelines lightgbm lightly lightning
lightning_fabric lime linearmodels lion_pytorch litellm llama_index llvmlite lm_eval lmdb loguru
loompy loralib lpips lxml lxml_html_clean lz4 mako mamba_ssm markdown markdown2 markupsafe
marshmallow matminer matplotlib mdtraj mediapipe memory_profiler mesa meshio minigrid minio
mir_eval missingno mistune mizani ml_collections ml_dtypes mlflow mmcv mmdet mmengine mmh3
mmpretrain mne modin monai more_itertools motor moviepy mpi4py mpmath msgpack msgspec mtcnn mteb
mujoco multidict multiprocess munch murmurhash music21 mypy napari natsort nbconvert nbformat nengo
neo4j neptune netron networkx neuralforecast neuralprophet nevergrad nibabel nilearn nltk nnsight
noisereduce notebook nox num2words numba numcodecs numexpr numpy numpyro nvitop oauth2client obspy
ogb omegaconf onnx onnx2torch onnxruntime onnxscript onnxsim open3d openai opencc openml openmm
openpyxl openturns opt_einsum optax optimum optree optuna orjson ortools outlines overrides
packaging paddleocr pandas pandera papermill paramiko parlai parmap parso passlib pathos patsy
pdfplumber peewee peft pendulum pettingzoo pexpect pgmpy phonemizer phonenumbers phonopy pika pint
plac platformdirs playwright plotly plotnine pluggy pmdarima polars pomegranate pooch portalocker
portpicker prefect preshed pretrainedmodels pretty_midi prettytable procgen prometheus_client
prompt_toolkit prophet psutil psycopg ptflops ptyprocess pudb pulp pwlf py7zr pyamg pyaml pyarrow
pyasn1 pyasn1_modules pybind11 pycaret pycocotools pycparser pycuda pydantic pydantic_core
pydantic_settings pydicom pydot pydub pyexr pyflakes pygame pyglet pygments pykalman pylint
pyloudnorm pymatgen pymc pymilvus pymongo pymoo pymupdf pymysql pynndescent pyogrio pyomo pyparsing
pypdf pypdfium2 pyperclip pyphen pypinyin pyproj pyqtgraph pyreadr pyreadstat pyrender pysam pyscf
pyscipopt pyserini pyspark pysptk pysr pysrt pyteomics pytesseract pytest pythainlp
pytorch_lightning pytorch_metric_learning pytorch_msssim pytorch_tabnet pytorchvideo pyts pyttsx3
pytz pyvista pyworld qdrant_client qutip ranx rapidfuzz rasterio rasterstats rawpy ray rdflib rdkit
redis referencing regex reportlab requests requests_oauthlib requests_toolbelt resampy responses
retrying rich rioxarray rlcard rouge rouge_score rsa ruff ruptures s3fs sacrebleu sacred sacremoses
sae_lens safetensors scanpy schedule schnetpack scipy scvelo seaborn selenium semver
sentence_transformers sentencepiece sentry_sdk seqeval setfit setuptools shap shapely shellingham
shortuuid simplejson simpletransformers simpy six skimpy skorch sktime slack_sdk smart_open smplx
snntorch snowballstemmer sortedcontainers sounddevice soundfile soxr spacy speechbrain spektral
sphinx sqlalchemy sqlglot sqlmodel sqlparse squidpy srsly stable_baselines3 stanza stardist
starlette statsforecast statsmodels streamlit structlog stumpy submitit sudachipy sumy supersuit
supervision swifter sympy symspellpy tables tabulate tbats tblib tenacity tensorboard tensordict
tensorflow tensorflow_addons tensorflow_datasets tensorflow_hub tensorflow_probability
tensorflow_text tensorly tensorrt tensorstore termcolor textacy textblob textdistance textual
tflite_runtime thefuzz thinc thop threadpoolctl tifffile tiktoken timm tokenizers toml tomli
tomli_w tomlkit toolz torch torch_cluster torch_fidelity torch_geometric torch_optimizer
torch_scatter torch_sparse torch_xla torchani torchaudio torchcrepe torchdata torchdiffeq torchinfo
torchio torchmetrics torchrl torchsde torchsummary torchtext torchtune torchtyping torchvision
torchviz tornado tpot tqdm trafilatura traitlets transformer_lens transformers treelib trimesh trio
triton trl tsfresh tslearn ttach typeguard typer typing_extensions tyro tzdata tzlocal ujson
ultralytics underthesea unidecode unsloth unstructured urllib3 uvicorn uvloop vaex validators
vectorbt vidgear virtualenv visdom vllm vtk wandb warcio watchdog wavedrom webcolors webdataset
webrtcvad websockets werkzeug wheel whoosh wikipedia wordcloud wordfreq wrapt xarray xformers
xgboost xlrd xlsxwriter xlwt xmltodict xxhash yacs yake yarl yfinance youtokentome youtube_dl
yt_dlp zarr zstandard
"""

# Modules whose package is called otherwise.
_OTHER = """
absl=absl-py apache_beam=apache-beam attr=attrs autogluon.multimodal=autogluon-multimodal
autogluon.tabular=autogluon-tabular autogluon.timeseries=autogluon-timeseries awq=autoawq
azure.core=azure-core azure.identity=azure-identity azure.keyvault.secrets=azure-keyvault-secrets
azure.storage.blob=azure-storage-blob bayes_opt=bayesian-optimization Bio=biopython
bs4=beautifulsoup4 bson=pymongo colbert=colbert-ai community=python-louvain composer=mosaicml
cpuinfo=py-cpuinfo Crypto=pycryptodome Cryptodome=pycryptodomex cv2=opencv-python-headless
Cython=cython databricks.sdk=databricks-sdk dateutil=python-dateutil dice_ml=dice-ml
discord=discord-py dns=dnspython docx=python-docx dotenv=python-dotenv faiss=faiss-cpu
ffmpeg=ffmpeg-python fitz=pymupdf fontTools=fonttools fpdf=fpdf2 gi=pygobject git=gitpython
github=pygithub gitlab=python-gitlab google.api_core=google-api-core google.auth=google-auth
google.cloud.aiplatform=google-cloud-aiplatform google.cloud.bigquery=google-cloud-bigquery
google.cloud.bigquery_storage=google-cloud-bigquery-storage
google.cloud.bigtable=google-cloud-bigtable google.cloud.compute=google-cloud-compute
google.cloud.datastore=google-cloud-datastore google.cloud.dlp=google-cloud-dlp
google.cloud.documentai=google-cloud-documentai google.cloud.firestore=google-cloud-firestore
google.cloud.kms=google-cloud-kms google.cloud.language=google-cloud-language
google.cloud.logging=google-cloud-logging google.cloud.monitoring=google-cloud-monitoring
google.cloud.pubsub=google-cloud-pubsub google.cloud.secretmanager=google-cloud-secret-manager
google.cloud.spanner=google-cloud-spanner google.cloud.speech=google-cloud-speech
google.cloud.storage=google-cloud-storage google.cloud.tasks=google-cloud-tasks
google.cloud.texttospeech=google-cloud-texttospeech google.cloud.translate=google-cloud-translate
google.cloud.videointelligence=google-cloud-videointelligence
google.cloud.vision=google-cloud-vision google.genai=google-genai
google.generativeai=google-generativeai google.oauth2=google-auth google.protobuf=protobuf
google.rpc=googleapis-common-protos googleapiclient=google-api-python-client GPUtil=gputil
grpc=grpcio grpc_tools=grpcio-tools haiku=dm-haiku haystack=haystack-ai hydra=hydra-core
ibis=ibis-framework imblearn=imbalanced-learn indicnlp=indic-nlp-library IPython=ipython jwt=pyjwt
kafka=kafka-python Levenshtein=levenshtein llama_cpp=llama-cpp-python mace=mace-torch
magic=python-magic markdown_it=markdown-it-py MDAnalysis=mdanalysis MeCab=mecab-python3
mmseg=mmsegmentation mpl_toolkits.basemap=basemap mpl_toolkits=matplotlib
multipart=python-multipart mysql.connector=mysql-connector-python MySQLdb=mysqlclient nacl=pynacl
nemo=nemo-toolkit netCDF4=netcdf4 nrrd=pynrrd open_clip=open-clip-torch OpenEXR=openexr
OpenGL=pyopengl OpenSSL=pyopenssl opentelemetry.baggage=opentelemetry-api
opentelemetry.context=opentelemetry-api opentelemetry.exporter.otlp=opentelemetry-exporter-otlp
opentelemetry.metrics=opentelemetry-api opentelemetry.sdk=opentelemetry-sdk
opentelemetry.trace=opentelemetry-api osgeo=gdal ot=pot paho.mqtt=paho-mqtt patoolib=patool
pdfminer=pdfminer-six PIL=pillow pkg_resources=setuptools pl_bolts=lightning-bolts pptx=python-pptx
progressbar=progressbar2 psycopg2=psycopg2-binary pyannote.audio=pyannote-audio
pyannote.core=pyannote-core pyDOE2=pydoe2 pylab=matplotlib pynvml=nvidia-ml-py PyPDF2=pypdf2
PyQt5=pyqt5 PyQt6=pyqt6 pyro=pyro-ppl PySide6=pyside6 pythonjsonlogger=python-json-logger
pywt=pywavelets retinaface=retina-face ruamel.yaml=ruamel-yaml SALib=salib saml2=pysaml2
scvi=scvi-tools serial=pyserial SimpleITK=simpleitk skimage=scikit-image sklearn=scikit-learn
sklearn_extra=scikit-learn-extra skopt=scikit-optimize sksurv=scikit-survival skvideo=scikit-video
slugify=python-slugify snowflake.connector=snowflake-connector-python socks=pysocks
speech_recognition=speechrecognition stan=pystan surprise=scikit-surprise
telegram=python-telegram-bot tensorboardX=tensorboardx tree=dm-tree umap=umap-learn usb=pyusb
vl_convert=vl-convert-python websocket=websocket-client whisper=openai-whisper
wikipediaapi=wikipedia-api wx=wxpython Xlib=python-xlib yaml=pyyaml zmq=pyzmq
"""


def _table() -> dict[str, str]:
    same = {name: name.replace("_", "-") for name in _SAME.split()}
    pairs = (pair.split("=") for pair in _OTHER.split())
    return same | {pair[0]: pair[1] for pair in pairs}


PACKAGES = _table()


def package_of(module: str) -> str | None:
    """Return the package that brings a module such as `google.cloud.storage`, None: not known.

    The longest part that is known counts, so that a shared name such as `google` says nothing.
    """
    parts = [_VERSION.sub("", part) for part in module.split(".")]
    for length in range(len(parts), 0, -1):
        if package := PACKAGES.get(".".join(parts[:length])):
            return package
    return None


_VERSION = re.compile(
    r"(?<=[a-z])_v[0-9]+(?:(?:alpha|beta|p)[0-9]+)*$"
)  # google.cloud.speech_v1p1beta1
