from pathlib import Path

from setuptools import setup

setup(
    name="tinygan",
    version="0.1.0",
    description="Generative adversarial networks from the tape to the picture, to be read",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE", "tinygan/data/README.md"],
    packages=["tinygan"],
    package_data={"tinygan": ["data/*"]},
    python_requires=">=3.10",
    install_requires=["numpy>=2", "matplotlib", "tqdm"],
    extras_require={
        "cuda12": ["cupy-cuda12x[ctk]>=14,<15"],
        "cuda13": ["cupy-cuda13x[ctk]>=14,<15"],
        "cupy-on-cpu": ["cupy-cuda12x==14.2.0"],  # to test without a GPU: tests/cupy_on_cpu
        "test": ["pytest", "hypothesis", "ruff"],
        "bench": ["torch"],
    },
)
