"""Packaging of pld-mmdet.

What is always required has bounds that an environment of mmdet 3.3 meets, so that
installing this package replaces nothing there (a test holds it). Extras name the
versions they were run with. There are no upper bounds but the one that mmdet itself
asserts (see ``upstream``).

``tools/_env.sh`` reads the lists below, so they stand in one place only.
"""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent

CORE = [
    "torch>=2.0",  # tensors, autograd, foreach EMA; safe loading (weights_only)
    "numpy>=1.23",  # arrays of the generator, the metrics and the report
    "pycocotools>=2.0.6",  # COCO json and masks; the reference AP
    "rich>=13.4",  # progress of long jobs, result tables; mmengine requires it too
]

# mmengine, mmcv and mmdet are not in CORE: each exists as two distributions of the
# SAME modules (mmdet and onedl-mmdetection, ...). Requiring one would overwrite the
# other in a user's environment, so the stack is an extra and the choice is the user's.
# OpenCV comes with mmcv, jinja2 (the pages of runs) with torch.
EXTRAS = {
    "onedl": [  # the maintained continuation of OpenMMLab; the default of tools/
        "onedl-mmengine>=0.10.12",  # runner, registry, configs
        "onedl-mmcv>=2.3.6",  # compiled NMS and RoIAlign; builds against new torch
        "onedl-mmdetection>=3.5.1",  # detectors
    ],
    "upstream": [  # OpenMMLab's last releases
        "mmengine>=0.10.7",  # last upstream release
        "mmcv>=2.1.0,<2.2.0",  # the break: mmdet 3.3.0 asserts mmcv < 2.2.0
        "mmdet>=3.3.0",  # last upstream release
    ],
    "report": ["matplotlib>=3.5"],  # one picture of a report: boxes before and after
    "fast": ["faster-coco-eval>=1.8.0"],  # COCO AP in C++, several times faster
    # One extra a family. The tests install all of them.
    "segmentation": ["onedl-mmsegmentation>=1.4.2"],  # segmentors for that family
    "classification": [
        "scikit-learn>=1.9",  # its digits serve as real data
        "transformers>=5.23",  # CLIP, a frozen vision-language teacher
    ],
    "weak_supervision": [
        "POT>=0.9.7",  # optimal transport
        "scikit-learn>=1.9",  # classical baselines; its digits serve as real data
    ],
    "dataset_distillation": ["scikit-learn>=1.9"],  # its digits serve as real data
    "masked_image_modeling": [
        "scikit-learn>=1.9",  # its digits serve as real data
        "transformers>=5.23",  # ViT and MAE weights of a folder or hub name
    ],
    "diffusion": [
        "diffusers>=0.42",  # UNets, schedulers
        "scikit-learn>=1.9",  # its digits serve as real data
    ],
    "language": [
        "transformers>=5.23",  # language models, tokenizers
        "peft>=0.21",  # LoRA students
        "scipy",  # Distiller's cheapest flow between layers
    ],
    "audio": [  # no torchaudio: the mel front end is our own
        "transformers>=5.23",  # speech encoders
        "scikit-learn>=1.9",  # k-means and topic models that make the pseudo-labels
    ],
    "tensorboard": ["tensorboard>=2.21"],  # a second visualizer backend
    "docs": [  # the site that tools/docs.sh builds
        "mkdocs-material>=9.6",  # pages, navigation, search
        "mkdocstrings[python]>=0.29",  # docstrings as pages, without importing anything
    ],
    "mutation": ["cosmic-ray>=8.4"],  # tools/mutate.sh; not in CI
    "dev": [
        "pytest>=9.2",  # the tests
        "pytest-xdist>=3.8",  # tests on all cores
        "pytest-timeout>=2.4",  # a test that hangs fails by its name
        "safetensors>=0.8",  # the other checkpoint format, read by the safe loader
        "hypothesis>=6.170",  # properties of losses and selections
        "ruff>=0.17",  # lint and format in one tool
        "import-linter>=2.16",  # holds the import directions of the design
    ],
}


def version() -> str:
    """Read ``__version__`` from the package's source, without importing it."""
    source = (HERE / "pld_mmdet" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE).group(1)


if __name__ == "__main__":
    from setuptools import find_packages, setup

    readme = HERE / "README.md"
    setup(
        name="pld-mmdet",
        version=version(),
        description=(
            "Learning from pseudo-labels and distillation: source-free adaptation of "
            "detectors and its relatives, on the OpenMMLab stack"
        ),
        long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
        long_description_content_type="text/markdown",
        author="pld_mmdet authors",
        license="Apache-2.0",
        packages=find_packages(include=["pld_mmdet", "pld_mmdet.*"]),
        # Files that a module reads at run time: the list of methods, the report's page.
        # Configs and tools travel inside the package, where mim looks for them
        # (pld_mmdet/.mim holds links to them; a wheel holds copies).
        package_data={
            "pld_mmdet": [
                "*.csv",
                "**/*.csv",
                "**/*.xz",
                "**/*.html",
                "**/*.css",
                "**/*.js",
                ".mim/*.yml",
                ".mim/configs/**/*.py",
                ".mim/tools/*",
                ".mim/docs/*.md",
                ".mim/docs/results/*.json",
            ]
        },
        entry_points={"console_scripts": ["pld-mmdet = pld_mmdet.__main__:main"]},
        # 3.11 is what the tests run on; onedl-mmcv refuses anything below 3.10.
        python_requires=">=3.10",
        install_requires=CORE,
        extras_require=EXTRAS,
    )
