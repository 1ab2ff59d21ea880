"""What is installed, and with what: the package, its twistd plugin and its configuration options."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "txglancecache/__init__.py").read_text(), re.MULTILINE)
README = HERE / "README.rst"

setup(
    name="txglancecache",
    version=VERSION[1],
    description="A caching reverse proxy and bulk-delivery service for OpenStack image data",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/x-rst",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: No Input/Output (Daemon)",
        "Environment :: OpenStack",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # twistd finds the plugin because "twisted/plugins" has no __init__.py, here as in Twisted itself.
    packages=[*find_packages(include=["txglancecache*"]), "twisted.plugins"],
    package_data={
        "txglancecache": ["py.typed"],
        "txglancecache.management.page": ["*.html", "*.css", "*.js", "*.svg"],
    },
    install_requires=[
        "twisted[tls]>=24.7",
        "treq>=24.9",
        "klein>=24.8",
        "attrs>=23.1",
        "h11>=0.14",
        "oslo.config>=9.0",
        "prometheus_client>=0.20",
        "oslo.policy>=4.5",
        "keystoneauth1>=5.0",
        # The command line: clouds.yaml, secure.yaml and OS_* as every client of OpenStack reads them.
        "openstacksdk>=3.0",
    ],
    entry_points={
        "console_scripts": ["txglancecache = txglancecache.cli.main:main"],
        "oslo.config.opts": ["txglancecache = txglancecache.service.options:list_opts"],
        "oslo.policy.policies": ["txglancecache = txglancecache.management.access.policy:list_rules"],
    },
    zip_safe=False,
)
