"""Images in a Glance, made and changed through its own API, past the proxy."""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from tests.cloud.client import Answer, UnexpectedStatus, call, request
from tests.cloud.glance import FILE_STORE, HTTP_STORE
from tests.cloud.payload import Body, Payload


@frozen
class Image:
    """An image and the bytes that were put into it."""

    id: str
    owner: str
    payload: Payload

    @property
    def size(self) -> int:
        return self.payload.size

    @property
    def path(self) -> str:
        return f"/v2/images/{self.id}/file"


@frozen(eq=False)
class Images:
    """The images of the Glance at `url`. `token` gives the token of a user by name, or None where none is
    needed."""

    url: str
    token: Callable[[str], str | None]

    def create(
        self,
        payload: Payload,
        *,
        owner: str = "alice",
        store: str = FILE_STORE,
        visibility: str = "private",
    ) -> Image:
        """An active image with the payload for its body."""
        image = Image(self.queue(owner, visibility=visibility), owner, payload)
        self.upload(image.id, payload, owner=owner, store=store)
        return image

    def upload(self, image_id: str, body: Body, *, owner: str = "alice", store: str = FILE_STORE) -> None:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(body.size),
            "X-Image-Meta-Store": store,
        }
        url = f"{self.url}/v2/images/{image_id}/file"
        answer = request("PUT", url, token=self.token(owner), headers=headers, body=body.chunks())
        if answer.status != 204:
            raise UnexpectedStatus("PUT", url, answer)

    def queue(self, owner: str = "alice", *, visibility: str = "private", disk_format: str = "raw") -> str:
        """The id of a new image that has no data."""
        fields: dict[str, object] = {
            "name": f"{owner}-{visibility}",
            "container_format": "bare",
            "disk_format": disk_format,
            "visibility": "private" if visibility == "public" else visibility,
        }
        made = call("POST", f"{self.url}/v2/images", token=self.token(owner), payload=fields).json()
        if visibility == "public":  # by default only an administrator may do that
            self.change("admin", made["id"], {"op": "replace", "path": "/visibility", "value": "public"})
        return str(made["id"])

    def link(self, location: str, payload: Payload, *, owner: str = "alice") -> Image:
        """An active image in the http store, whose body, the payload, is served at `location`; Glance has no
        digest of it."""
        image = Image(self.queue(owner), owner, payload)
        value = {"url": location, "metadata": {"store": HTTP_STORE}}
        self.change(owner, image.id, {"op": "add", "path": "/locations/-", "value": value})
        return image

    def change(self, user: str, image_id: str, *operations: Mapping[str, object]) -> None:
        patch = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        url = f"{self.url}/v2/images/{image_id}"
        call("PATCH", url, token=self.token(user), headers=patch, payload=list(operations))

    def show(self, image: Image, user: str | None = None) -> Any:
        url = f"{self.url}/v2/images/{image.id}"
        return call("GET", url, token=self.token(user or image.owner)).json()

    def delete(self, image: Image) -> None:
        call("DELETE", f"{self.url}/v2/images/{image.id}", token=self.token(image.owner))

    def deactivate(self, image: Image) -> None:
        call("POST", f"{self.url}/v2/images/{image.id}/actions/deactivate", token=self.token("admin"))

    def share(self, image: Image, project: str, member: str) -> None:
        """Share with a project, whose user accepts."""
        shared = {"op": "replace", "path": "/visibility", "value": "shared"}
        self.change(image.owner, image.id, shared)
        members = f"{self.url}/v2/images/{image.id}/members"
        call("POST", members, token=self.token(image.owner), payload={"member": project})
        call("PUT", f"{members}/{project}", token=self.token(member), payload={"status": "accepted"})

    def unshare(self, image: Image, project: str) -> None:
        members = f"{self.url}/v2/images/{image.id}/members"
        call("DELETE", f"{members}/{project}", token=self.token(image.owner))

    def get(self, image: Image, token: str | None, headers: dict[str, str] | None = None) -> Answer:
        """What Glance itself answers for the image's data."""
        return request("GET", self.url + image.path, token=token, headers=headers)
