"""`make run`: the proxy in front of a Glance, either the one that is named or one that is started for the
occasion with an image in it. Says what to paste into another terminal, and stops everything on Ctrl-C."""

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.cloud.cloud import running, start_open_glance
from tests.cloud.images import Images
from tests.cloud.install import CHECKOUT, InstallFailed, install
from tests.cloud.payload import MIB, Payload
from tests.cloud.ports import next_free
from tests.cloud.processes import Service, ServiceFailed, environment, start, stop
from tests.cloud.proxy import glancecache

_STATE = CHECKOUT / ".cloud"
_IMAGE_SIZE = 64 * MIB


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--origin", default="", help="the Glance to stand in front of")
    parser.add_argument("--listen", type=int, default=9393, help="the data site's port, or the next free one")
    parser.add_argument("--manage", type=int, default=9394, help="the management site's, likewise")
    parser.add_argument("--cache-dir", default="", help="kept when it is named")
    parser.add_argument("--options", default="", help="more options for twistd glancecache")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        _run(arguments)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except (InstallFailed, ServiceFailed) as failure:
        print(failure, file=sys.stderr)
        return 1
    return 1


def _run(arguments: argparse.Namespace) -> None:
    listen, manage = _port(arguments.listen), _port(arguments.manage)
    if manage == listen:
        manage = next_free(listen + 1)
    if arguments.origin:
        cache_dir = Path(arguments.cache_dir or _STATE / "cache").absolute()
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _proxy(arguments.origin, f"tcp:{listen}", manage, cache_dir, arguments.options) as proxy:
            _say(f"In front of {arguments.origin}.", listen, manage, "IMAGE-ID", '-H "X-Auth-Token: $TOKEN" ')
            proxy.popen.wait()
        return
    installation = install(_STATE)
    print("Starting a Glance …", flush=True)
    with running(installation) as processes:
        glance = start_open_glance(installation, processes)
        image = Images(glance.url, lambda user: None).create(Payload(_IMAGE_SIZE))
        cache_dir = Path(arguments.cache_dir or processes.directory / "cache").absolute()
        # without Keystone whoever can connect is an administrator, so nobody else's machine may
        endpoint = f"tcp:{listen}:interface=127.0.0.1"
        with _proxy(glance.url, endpoint, manage, cache_dir, arguments.options) as proxy:
            said = (
                f"In front of a Glance of its own, {glance.url}, with one image of {_IMAGE_SIZE // MIB} MiB."
            )
            _say(said, listen, manage, image.id, "")
            proxy.popen.wait()


def _port(wanted: int) -> int:
    port = next_free(wanted)
    if port != wanted:
        print(f"Port {wanted} is taken; using {port}.", flush=True)
    return port


@contextlib.contextmanager
def _proxy(origin: str, listen: str, manage: int, cache_dir: Path, options: str) -> Iterator[Service]:
    command = glancecache(
        origin=origin, listen=listen, manage=f"tcp:{manage}:interface=127.0.0.1", cache_dir=cache_dir
    )
    command.extend(shlex.split(options))
    service = start("txglancecache", command, None, env=environment(), cwd=Path.cwd())
    try:
        service.until_answers(f"http://127.0.0.1:{manage}/cache")
        yield service
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop([service], grace=35)


def _say(what: str, listen: int, manage: int, image: str, header: str) -> None:
    file = f"http://127.0.0.1:{listen}/v2/images/{image}/file"
    curl = f"curl -sS -o /dev/null -D - -w '%{{size_download}} bytes in %{{time_total}} s\\n' {header}{file}"
    print(
        f"""
{what} Paste into another terminal:

  {curl}   # a miss: from Glance
  {curl}   # a hit: from this node's disk
  curl -s http://127.0.0.1:{manage}/cache | python3 -m json.tool
  curl -s http://127.0.0.1:{manage}/cache/images | python3 -m json.tool

The same in a browser: http://127.0.0.1:{manage}/cache/
Ctrl-C stops everything.
""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
