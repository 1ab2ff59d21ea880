"""nginx as a cache of image data, the way a careful operator would have it, and the way most have it."""

import os
import shutil
from pathlib import Path

from attrs import frozen

from benchmarks.stage import Server, Stage
from tests.cloud.ports import free_port


class NginxMissing(Exception):
    """Debian's nginx is not installed."""


@frozen
class Tuning:
    """How nginx moves bodies. ``workers`` is 1 where it is compared with one reactor; 0: as many as cores."""

    sendfile_max_chunk: str = "512k"
    tcp_nopush: bool = False
    workers: int = 1
    threads: bool = False
    large_buffers: bool = False

    def http(self) -> list[str]:
        lines = [
            "sendfile on;",
            f"sendfile_max_chunk {self.sendfile_max_chunk};",
            f"tcp_nopush {'on' if self.tcp_nopush else 'off'};",
        ]
        if self.threads:
            lines += ["aio threads;", "aio_write on;"]
        if self.large_buffers:
            lines += [
                "proxy_buffers 16 64k;",
                "proxy_buffer_size 64k;",
                "proxy_busy_buffers_size 128k;",
                "proxy_temp_file_write_size 256k;",
            ]
        return lines


BEST = Tuning()
USUAL = Tuning(sendfile_max_chunk="2m", tcp_nopush=True)
BEST_MISS = Tuning(large_buffers=True)
THREADS = Tuning(threads=True)

#: Answers the check before a hit: the origin is asked what the product asks it, whether this client may have
#: what lies behind the last byte; its 416 means yes.
_ASK_FIRST = """
    location / {
        auth_request /allowed;
        proxy_pass http://origin;
    }
    location = /allowed {
        internal;
        proxy_cache off;
        proxy_pass http://origin$request_uri;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header Range "bytes=SIZE-";
        proxy_intercept_errors on;
        error_page 416 =204 /yes;
    }
    location = /yes { internal; return 204; }
"""
_LOCATION = """
    location / { proxy_pass http://origin; }
"""


@frozen(eq=False)
class Nginx:
    """A running nginx, and where its cached bodies are."""

    server: Server
    cache_dir: Path

    def holds(self, size: int) -> bool:
        """Whether a body of so many bytes is in the cache."""
        return any(path.stat().st_size >= size for path in self.cache_dir.rglob("*") if path.is_file())

    def empty(self) -> None:
        """Remove the cached bodies. nginx fetches one again when it does not find its file."""
        for path in [path for path in self.cache_dir.rglob("*") if path.is_file()]:
            path.unlink()


def start(stage: Stage, origin: str, tuning: Tuning = BEST, *, ask_first_for: int = 0) -> Nginx:
    """nginx with ``proxy_cache`` in front of ``origin``.

    :param ask_first_for: for bodies of this size the origin is asked about every request.
    :raises NginxMissing: there is none.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise NginxMissing("nginx is needed: apt-get install nginx")
    port, folder = free_port(), stage.folder("nginx")
    location = _ASK_FIRST.replace("SIZE", str(ask_first_for)) if ask_first_for else _LOCATION
    (folder / "nginx.conf").write_text(_configuration(folder, port, origin, tuning, location))
    service = stage.processes.start(
        folder.name, program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"
    )
    service.until_answers(f"http://127.0.0.1:{port}/small")
    return Nginx(Server(service.pid, port), folder / "cache")


def _configuration(folder: Path, port: int, origin: str, tuning: Tuning, location: str) -> str:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # as root its workers would become somebody who cannot enter the directory
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
daemon off;
{user}
worker_processes {tuning.workers or "auto"};
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    {temporary}
    keepalive_requests 1000000;
    {" ".join(tuning.http())}
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=images:10m max_size=64g use_temp_path=off;
    proxy_cache images;
    proxy_cache_key $uri;
    proxy_cache_valid 200 1d;
    proxy_cache_lock on;
    proxy_cache_lock_timeout 600s;
    proxy_cache_lock_age 600s;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream origin {{ server {origin.removeprefix("http://")}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /small {{ proxy_cache off; return 200 "ok"; }}
        {location}
    }}
}}
"""
