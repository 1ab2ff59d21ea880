"""Who there is in the cloud, through Keystone's API: projects, users, the catalog, tokens."""

from typing import Any

from attrs import define, field, frozen

from tests.cloud.client import call, request

PASSWORD = "secret"  # everybody's
REGION = "RegionOne"


@frozen
class User:
    name: str
    project: str
    roles: tuple[str, ...]


USERS = (
    User("alice", "demo", ("member",)),
    User("bob", "other", ("member",)),
    User("reader", "demo", ("reader",)),
    User("glance", "service", ("admin", "service")),
    User("swift", "service", ("admin", "service")),
)
_HOME = {"admin": "admin", **{user.name: user.project for user in USERS}}


@define(eq=False)
class Identity:
    """Keystone at `url`, once `populate` has run."""

    url: str
    projects: dict[str, str] = field(factory=dict)
    _endpoints: dict[str, list[str]] = field(factory=dict)
    _tokens: dict[tuple[str, str], str] = field(factory=dict)

    def token(self, user: str, project: str | None = None) -> str:
        """A token of the user's, one and the same each time it is asked for."""
        project = project or _HOME[user]
        if (user, project) not in self._tokens:
            self._tokens[user, project] = self.issue(user, project)
        return self._tokens[user, project]

    def issue(self, user: str, project: str | None = None, *, at: str | None = None) -> str:
        """A new token, from this Keystone or from the one at `at`."""
        password = {"user": {"name": user, "domain": {"id": "default"}, "password": PASSWORD}}
        scope = {"project": {"name": project or _HOME[user], "domain": {"id": "default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": password}, "scope": scope}}
        answer = call("POST", f"{at or self.url}/auth/tokens", payload=body)
        return str(answer.headers["X-Subject-Token"])

    def revoke(self, token: str) -> None:
        call("DELETE", f"{self.url}/auth/tokens", token=token, headers={"X-Subject-Token": token})

    def is_valid(self, token: str) -> bool:
        """Whether Keystone vouches for the token."""
        headers = {"X-Subject-Token": token}
        return (
            request("HEAD", f"{self.url}/auth/tokens", token=self.token("admin"), headers=headers).status
            == 200
        )

    def populate(self, endpoints: dict[str, str]) -> None:
        """Make the projects, the users, their roles and the catalog: service type -> URL."""
        roles = {role["name"]: role["id"] for role in self._get("/roles")["roles"]}
        self.projects = {project["name"]: project["id"] for project in self._get("/projects")["projects"]}
        for name in ("demo", "other", "service"):
            project = self._post("/projects", {"project": {"name": name, "domain_id": "default"}})["project"]
            self.projects[name] = project["id"]
        for user in USERS:
            fields = {"name": user.name, "password": PASSWORD, "domain_id": "default"}
            made = self._post("/users", {"user": fields})["user"]["id"]
            for role in user.roles:
                self._grant(made, user.project, roles[role])
        admin = self._get("/users?name=admin")["users"][0]["id"]
        self._grant(admin, "demo", roles["admin"])
        self._post("/regions", {"region": {"id": REGION}})
        for kind, url in endpoints.items():
            service = self._post("/services", {"service": {"name": kind, "type": kind}})["service"]["id"]
            self._endpoints[kind] = [
                self._post(
                    "/endpoints",
                    {"endpoint": {"service_id": service, "interface": face, "url": url, "region_id": REGION}},
                )["endpoint"]["id"]
                for face in ("public", "internal", "admin")
            ]

    def publish(self, kind: str, url: str) -> None:
        """Let the catalog name another URL for a service."""
        for endpoint in self._endpoints[kind]:
            path = f"{self.url}/endpoints/{endpoint}"
            call("PATCH", path, token=self.token("admin"), payload={"endpoint": {"url": url}})

    def _grant(self, user: str, project: str, role: str) -> None:
        path = f"/projects/{self.projects[project]}/users/{user}/roles/{role}"
        call("PUT", self.url + path, token=self.token("admin"))

    def _get(self, path: str) -> Any:
        return call("GET", self.url + path, token=self.token("admin")).json()

    def _post(self, path: str, payload: object) -> Any:
        return call("POST", self.url + path, token=self.token("admin"), payload=payload).json()
