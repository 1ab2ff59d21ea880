"""Every operation of the native API: the one table that the router and the OpenAPI document are made of."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from txglancecache.cache.status import JobKind, JobState
from txglancecache.management.native.listing import SORTS
from txglancecache.management.native.operations import (
    JSON_TYPE,
    Body,
    Link,
    Operation,
    Parameter,
    PathParameter,
    Reply,
    json_reply,
)
from txglancecache.management.native.schema import STATES, ref
from txglancecache.management.native.shapes import Flag, Integer, ListOf, Member, Object, Size, Text

_OK, _ACCEPTED, _DONE = HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT
_EXAMPLE_ID = "71c675ab-d94f-49cd-a114-e12490b328d9"
_PAGE = 1000

#: As `txglancecache.image.is_image_id` knows them.
_IMAGE_ID = Text(
    r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,254}", what="an image's id: letters, digits, '.', '_' and '-'"
)
_JOB_ID = Integer(0, 2**53)

PATH_PARAMETERS: Mapping[str, PathParameter] = {
    "image_id": PathParameter(_IMAGE_ID, "The image's id in Glance.", _EXAMPLE_ID),
    "job_id": PathParameter(_JOB_ID, "The job's number.", "17"),
}

_LIMIT = Parameter("limit", Integer(1, _PAGE), "The most to list on one page.", default=_PAGE, example=100)
_SORT = Text(choices=tuple(f"{name}{order}" for name in SORTS for order in ("", ":asc", ":desc")))
_WITH_IMAGE = ("show_image", "purge_image", "pin_image", "unpin_image", "verify_image")
_WITH_JOB = ("show_job", "cancel_job")
_FIRST_JOB = Link("job_id", "/jobs/0/id", _WITH_JOB)
_NO_IMAGE = {HTTPStatus.NOT_FOUND: "No such image is in this cache."}
_NO_JOB = {HTTPStatus.NOT_FOUND: "There is no such job."}
_BODY_PROBLEM = {HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON, or does not say so."}
_ORIGIN_PROBLEMS = {
    HTTPStatus.BAD_GATEWAY: "The origin could not be asked.",
    HTTPStatus.GATEWAY_TIMEOUT: "The origin did not answer in time.",
}

NODE = (
    Operation(
        "GET",
        "/cache",
        "overview",
        "node",
        "Tell about this node",
        "Name, version, sizes, counters, the queue in numbers, and the latest events.",
        [json_reply(_OK, "The node and its cache.", ref("Node"))],
    ),
    Operation(
        "GET",
        "/cache/",
        "front",
        "node",
        "Tell about this node, to people too",
        "The web page for whoever prefers `text/html`; for others the same as `/cache`.",
        [json_reply(_OK, "The node and its cache.", ref("Node"))],
    ),
    Operation(
        "GET",
        "/cache/counters",
        "counters",
        "node",
        "Tell how often what happened",
        "Counts since the process started. `/metrics` has more, in the form that Prometheus wants.",
        [json_reply(_OK, "The counters by name.", ref("Counters"))],
    ),
    Operation(
        "GET",
        "/cache/events",
        "events",
        "node",
        "Tell what happened, and what happens",
        "The latest events; or, to whoever asks for `text/event-stream`, a stream of Server-Sent Events "
        "that goes on with each new one. An event's name is its kind, its data an `Event`, its `id` that "
        "of the `Event`, which names the process too. A stream begins with an `id` from which to go on. "
        "Who sends `Last-Event-ID` gets what came after that first. Where some of it is not known any "
        "more, an event of the kind `missed` comes in its place. If this process has no such event, because "
        "it was another one's or none, all that is known comes.",
        [
            Reply(
                _OK,
                "The latest events, or a stream of them.",
                {JSON_TYPE: ref("Events"), "text/event-stream": {"type": "string"}},
            )
        ],
    ),
)

IMAGES = (
    Operation(
        "GET",
        "/cache/images",
        "list_images",
        "images",
        "List images",
        "What is in the cache, whole or in part, in pages.",
        [json_reply(_OK, "A page of images.", ref("Images"), Link("image_id", "/images/0/id", _WITH_IMAGE))],
        parameters=[
            Parameter(
                "q", Text(most=255), "A part of the image's id or digest, in any case.", example="71c6"
            ),
            Parameter("state", Text(choices=STATES), "Only images in this state."),
            Parameter("pinned", Flag(), "Only images that are pinned, or only those that are not."),
            Parameter("sort", _SORT, "By what to sort them; equals are sorted by their ids.", default="id"),
            _LIMIT,
            Parameter("marker", _IMAGE_ID, "The last image of the page before.", example=_EXAMPLE_ID),
        ],
        problems={HTTPStatus.CONFLICT: "The marker has left the cache: begin with the first page again."},
    ),
    Operation(
        "DELETE",
        "/cache/images",
        "purge_images",
        "images",
        "Purge many images, or all",
        "Drops the images that are named, or, if none is, every image. Downloads that have begun go on.",
        [json_reply(_OK, "They are gone from the cache, and from the disk.", ref("Purged"))],
        parameters=[
            Parameter("id", _IMAGE_ID, "An image to purge; give it several times for several.", repeated=True)
        ],
    ),
    Operation(
        "GET",
        "/cache/images/{image_id}",
        "show_image",
        "images",
        "Show an image",
        "What is there of it, who reads it, and how fast it comes.",
        [json_reply(_OK, "The image.", ref("ImageDetail"))],
        problems=_NO_IMAGE,
    ),
    Operation(
        "DELETE",
        "/cache/images/{image_id}",
        "purge_image",
        "images",
        "Purge an image",
        "Drops it from the cache and from the disk. Downloads that have begun go on.",
        [Reply(_DONE, "It is gone.")],
        problems=_NO_IMAGE,
    ),
    Operation(
        "PUT",
        "/cache/images/{image_id}/pin",
        "pin_image",
        "images",
        "Pin an image",
        "It is not evicted, however full the cache is. It can still be purged.",
        [Reply(_DONE, "It is pinned.")],
        problems=_NO_IMAGE,
    ),
    Operation(
        "DELETE",
        "/cache/images/{image_id}/pin",
        "unpin_image",
        "images",
        "Unpin an image",
        "It may be evicted like any other.",
        [Reply(_DONE, "It is not pinned.")],
        problems=_NO_IMAGE,
    ),
)

JOBS = (
    Operation(
        "POST",
        "/cache/images/{image_id}/verify",
        "verify_image",
        "jobs",
        "Verify an image again",
        "Has what is on disk hashed anew. An image that turns out to be damaged is put into quarantine.",
        [json_reply(_ACCEPTED, "The job that does it.", ref("Job"), Link("job_id", "/id", _WITH_JOB))],
        problems={**_NO_IMAGE, HTTPStatus.CONFLICT: "The image is not complete: there is nothing to verify."},
    ),
    Operation(
        "POST",
        "/cache/verify",
        "verify_images",
        "jobs",
        "Verify every image again",
        "Has every complete image hashed anew, one after the other.",
        [json_reply(_ACCEPTED, "The jobs that do it.", ref("Queued"), _FIRST_JOB)],
    ),
    Operation(
        "POST",
        "/cache/prefetch",
        "prefetch_images",
        "jobs",
        "Prefetch images",
        "Has images fetched before anybody downloads them. All of them are queued, or none. With a token "
        "the origin is asked first whether its owner may have them, and that token fetches them. The node's "
        "own credentials, if it has any, fetch them without a token, and once the token has expired. An "
        "image that is complete is done at once; one that is queued already is not queued twice.",
        [json_reply(_ACCEPTED, "The jobs that do it.", ref("Queued"), _FIRST_JOB)],
        body=Body(
            Object(
                {
                    "images": Member(ListOf(_IMAGE_ID, _PAGE), "The images' ids.", required=True),
                    "priority": Member(
                        Integer(-1000, 1000), "Jobs of a higher priority are begun first.", default=0
                    ),
                }
            ),
            {"images": [_EXAMPLE_ID], "priority": 10},
            required=True,
        ),
        problems={
            HTTPStatus.NOT_FOUND: "The origin knows no such image.",
            **_BODY_PROBLEM,
            **_ORIGIN_PROBLEMS,
        },
    ),
    Operation(
        "GET",
        "/cache/jobs",
        "list_jobs",
        "jobs",
        "List jobs",
        "Prefetches and verifications that wait, are under way, or are over; the newest last, in pages. Of "
        "those that are over these are the latest 200.",
        [json_reply(_OK, "A page of jobs.", ref("Jobs"), _FIRST_JOB)],
        parameters=[
            Parameter("state", Text(choices=tuple(JobState)), "Only jobs in this state."),
            Parameter("kind", Text(choices=tuple(JobKind)), "Only jobs of this kind."),
            _LIMIT,
            Parameter("marker", _JOB_ID, "The last job of the page before.", example=17),
        ],
    ),
    Operation(
        "DELETE",
        "/cache/jobs",
        "cancel_jobs",
        "jobs",
        "Cancel all jobs that wait",
        "What is under way goes on.",
        [json_reply(_OK, "They are cancelled.", ref("Cancelled"))],
    ),
    Operation(
        "GET",
        "/cache/jobs/{job_id}",
        "show_job",
        "jobs",
        "Show a job",
        "How far it has come. One that is over and no longer listed is still known for ten minutes.",
        [json_reply(_OK, "The job.", ref("Job"))],
        problems=_NO_JOB,
    ),
    Operation(
        "DELETE",
        "/cache/jobs/{job_id}",
        "cancel_job",
        "jobs",
        "Cancel a job",
        "Whether it waits or is under way. What it fetched stays in the cache.",
        [Reply(_DONE, "It is cancelled.")],
        problems={**_NO_JOB, HTTPStatus.CONFLICT: "The job is over."},
    ),
)

UPKEEP = (
    Operation(
        "POST",
        "/cache/prune",
        "prune",
        "upkeep",
        "Prune the cache to a size",
        "Evicts the images that are least worth keeping, until those that stay take no more than `target` "
        "bytes; without a target, until the configured limits hold. What is pinned or in use stays.",
        [json_reply(_OK, "It is done.", ref("Freed"))],
        body=Body(
            Object({"target": Member(Size(), "The size to prune to: bytes, or such as `10GiB`.")}),
            {"target": "10GiB"},
        ),
        problems=_BODY_PROBLEM,
    ),
    Operation(
        "POST",
        "/cache/clean",
        "clean",
        "upkeep",
        "Clear away what is of no use",
        "Deletes incomplete images that nobody reads or fetches, and files that belong to no image.",
        [json_reply(_OK, "It is done.", ref("Freed"))],
    ),
    Operation(
        "GET",
        "/cache/quarantine",
        "list_quarantine",
        "upkeep",
        "List the quarantine",
        "Bodies that failed verification, put aside for whoever wants to know why.",
        [json_reply(_OK, "The files.", ref("Quarantine"))],
    ),
    Operation(
        "DELETE",
        "/cache/quarantine",
        "clear_quarantine",
        "upkeep",
        "Clear the quarantine",
        "Deletes the bodies in it.",
        [json_reply(_OK, "It is done.", ref("Freed"))],
    ),
)

HEALTH = (
    Operation(
        "GET",
        "/cache/health",
        "health",
        "health",
        "Tell whether the process answers",
        "For whoever restarts processes that do not.",
        [json_reply(_OK, "It does.", ref("Health"))],
    ),
    Operation(
        "GET",
        "/cache/ready",
        "ready",
        "health",
        "Tell whether the node can do its work",
        "For balancers: whether the origin answers, the disk can be written, and there is room. What was "
        "found is kept for a few seconds.",
        [
            json_reply(_OK, "It can.", ref("Readiness")),
            json_reply(HTTPStatus.SERVICE_UNAVAILABLE, "It cannot; the checks say why.", ref("Readiness")),
        ],
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "health",
        "Tell Prometheus",
        "All measurements, as text or in the OpenMetrics form.",
        [
            Reply(
                _OK,
                "The measurements.",
                {"text/plain": {"type": "string"}, "application/openmetrics-text": {"type": "string"}},
            )
        ],
    ),
    Operation(
        "GET",
        "/cache/openapi.json",
        "openapi",
        "description",
        "Describe this API",
        "This document.",
        [json_reply(_OK, "The document.", {"type": "object"})],
    ),
)

OPERATIONS: tuple[Operation, ...] = NODE + IMAGES + JOBS + UPKEEP + HEALTH
