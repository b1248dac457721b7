from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="tinygan",
    version="0.1.0",
    description="A GAN library small enough to read in an afternoon: autograd, layers, losses and "
    "training loops in NumPy, or CuPy on a GPU.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE", "tinygan/datasets/data/README.md"],
    packages=[*find_packages(include=["tinygan", "tinygan.*"]), "tinygan.demos"],
    package_dir={"tinygan.demos": "demos"},
    package_data={"tinygan.datasets": ["data/*"], "tinygan.lab": ["page.html"],
                  "tinygan.metrics": ["*.npz"]},
    entry_points={"console_scripts": ["tinygan = tinygan.__main__:main"]},
    python_requires=">=3.10",
    install_requires=["numpy>=2", "matplotlib", "tqdm"],
    extras_require={
        "cuda12": ["cupy-cuda12x[ctk]>=14,<15"],
        "cuda13": ["cupy-cuda13x[ctk]>=14,<15"],
        "cupy-on-cpu": ["cupy-cuda12x==14.2.0"],  # to test without a GPU: tests/cupy_on_cpu
        "mpi": ["mpi4py", "mpich"],
        "test": ["pytest", "pytest-xdist", "hypothesis", "ruff"],
        "bench": ["torch"],
    },
)
