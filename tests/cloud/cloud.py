"""The whole cloud: started together, stopped together, one directory of state that goes with it."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from tests.cloud import glance as glances
from tests.cloud import keystone as keystones
from tests.cloud import swift as swifts
from tests.cloud.identity import PASSWORD, REGION, Identity
from tests.cloud.images import Images
from tests.cloud.install import Installation
from tests.cloud.processes import Processes

BRIEF = 4  # seconds


@contextmanager
def running(installation: Installation) -> Iterator[Processes]:
    """A directory under the installation and the processes that live in it; both are gone at the end. Their
    logs stay, in one under `log`, until something else is run."""
    directory, logs = (_own(installation.root / of_all) for of_all in ("run", "log"))
    processes = Processes(directory, logs)
    try:
        yield processes
    finally:
        processes.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _own(of_all: Path) -> Path:
    """A directory in there for this process; those of processes that are no more go."""
    own = of_all / str(os.getpid())
    of_all.mkdir(exist_ok=True)
    for left in of_all.iterdir():
        if left == own or not Path("/proc", left.name).exists():
            shutil.rmtree(left, ignore_errors=True)
    own.mkdir()
    return own


@define(eq=False)
class Cloud:
    """A running Keystone, Glance and Swift."""

    installation: Installation
    processes: Processes
    keystone: keystones.Keystone
    glance: glances.Glance
    swift: swifts.Swift
    identity: Identity
    images: Images
    _issuer: keystones.Keystone | None = None
    _expired: dict[str, str] = field(factory=dict)
    _open_glance: glances.Glance | None = None

    @classmethod
    def start(cls, installation: Installation, processes: Processes) -> "Cloud":
        bin_dir, template = installation.bin, installation.template
        identity_service = keystones.start(bin_dir, template, processes)
        image_service = glances.start_for(
            identity_service.url, bin_dir, template, installation.paste, processes
        )
        object_service = swifts.start(identity_service.url, bin_dir, processes)
        identity = Identity(identity_service.url)
        identity_service.service.until_answers(identity_service.url)
        identity.populate(
            {
                "identity": identity_service.url,
                "image": image_service.url,
                "object-store": object_service.endpoint,
            }
        )
        image_service.wait()
        object_service.wait()
        return cls(
            installation,
            processes,
            identity_service,
            image_service,
            object_service,
            identity,
            Images(image_service.url, identity.token),
        )

    def token(self, user: str, project: str | None = None) -> str:
        return self.identity.token(user, project)

    def brief_token(self, user: str) -> str:
        """A token that expires in `BRIEF` seconds."""
        if self._issuer is None:
            issuer = keystones.start_issuer(self.keystone, BRIEF, self.installation.bin, self.processes)
            issuer.service.until_answers(issuer.url)
            self._issuer = issuer
        return self.identity.issue(user, at=self._issuer.url)

    def expired_token(self, user: str) -> str:
        """A token whose time is up; one and the same each time it is asked for."""
        if user not in self._expired:
            self._expired[user] = token = self.brief_token(user)
            while self.identity.is_valid(token):
                time.sleep(0.1)
        return self._expired[user]

    @property
    def open_images(self) -> Images:
        """The images of a second Glance, which asks nobody who they are; started when it is first wanted."""
        if self._open_glance is None:
            self._open_glance = start_open_glance(self.installation, self.processes)
        return Images(self._open_glance.url, lambda user: None)

    def restart_open_glance(self) -> None:
        """Kill that second Glance in the middle of whatever it does, and start it again."""
        assert self._open_glance is not None
        service = self.processes.restart(self._open_glance.service)
        self._open_glance = glances.Glance(service, self._open_glance.url)
        self._open_glance.wait()

    def client_environment(self, user: str) -> dict[str, str]:
        """What OpenStack's command line clients read."""
        project = {"alice": "demo", "bob": "other"}.get(user, "demo")
        return {
            "OS_AUTH_URL": self.keystone.url,
            "OS_USERNAME": user,
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_REGION_NAME": REGION,
            "OS_IDENTITY_API_VERSION": "3",
        }


def start_open_glance(installation: Installation, processes: Processes) -> glances.Glance:
    """A Glance for everybody, on SQLite and a local directory."""
    service = glances.start_open(installation.bin, installation.template, installation.paste, processes)
    service.wait()
    return service
