"""The values of this API in JSON: how each is made, and the schema that describes it, side by side."""

from __future__ import annotations

from collections.abc import Mapping

from txglancecache.cache.events import Event
from txglancecache.cache.status import (
    CacheStatus,
    EntryStatus,
    Freed,
    JobKind,
    JobState,
    JobStatus,
    QuarantineFile,
)
from txglancecache.management.answers import JSON
from txglancecache.management.native.shapes import Schema

_ID = "71c675ab-d94f-49cd-a114-e12490b328d9"
_BYTES: Schema = {"type": "integer", "minimum": 0, "format": "int64"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TIME: Schema = {"type": "number", "minimum": 0, "examples": [1764600000.25]}
_RATE: Schema = {"type": "number", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_TEXT: Schema = {"type": "string"}

#: What an entry can be, as `state_of` tells it.
STATES = ("complete", "partial", "filling")


def state_of(entry: EntryStatus) -> str:
    """Whole and verified; else being fetched or checked; else as much as there is."""
    if entry.complete:
        return "complete"
    return "filling" if entry.filling else "partial"


def image_json(entry: EntryStatus) -> dict[str, JSON]:
    return {
        "id": entry.image_id,
        "state": state_of(entry),
        "size": entry.size,
        "bytes_on_disk": entry.bytes_on_disk,
        "complete": entry.complete,
        "filling": entry.filling,
        "pinned": entry.pinned,
        "digest": entry.digest,
        "hits": entry.hits,
        "created": entry.created,
        "last_access": entry.last_access or None,
        "readers": entry.readers,
        "sources": entry.sources,
        "rate": round(entry.rate, 1),
    }


def image_detail_json(entry: EntryStatus) -> dict[str, JSON]:
    readers: list[JSON] = [
        {"position": reader.position, "start": reader.start, "stop": reader.stop, "whole": reader.whole}
        for reader in entry.reader_list
    ]
    extents: list[JSON] = [list(extent) for extent in entry.extents]
    return image_json(entry) | {"extents": extents, "readers_list": readers}


def job_json(job: JobStatus) -> dict[str, JSON]:
    return {
        "id": job.id,
        "kind": job.kind.value,
        "image_id": job.image_id,
        "state": job.state.value,
        "priority": job.priority,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "attempts": job.attempts,
        "size": job.size,
        "done": job.done,
        "rate": round(job.rate, 1),
        "eta": job.eta if job.eta is None else round(job.eta, 1),
        "error": job.error,
        "next_try": job.next_try,
    }


def event_json(event: Event) -> dict[str, JSON]:
    return {
        "id": event.id,
        "serial": event.serial,
        "time": event.time,
        "kind": event.kind,
        "image_id": event.image_id,
        "detail": event.detail,
    }


def quarantine_json(file: QuarantineFile) -> dict[str, JSON]:
    return {
        "name": file.name,
        "image_id": file.image_id,
        "size": file.size,
        "allocated": file.allocated,
        "time": file.time,
    }


def freed_json(freed: Freed) -> dict[str, JSON]:
    return {"files": freed.files, "bytes": freed.bytes}


def sizes_json(status: CacheStatus) -> dict[str, JSON]:
    return {
        "bytes_on_disk": status.bytes_on_disk,
        "reserved": status.reserved,
        "max_size": status.max_size,
        "min_free": status.min_free,
        "disk_free": status.disk_free,
        "quarantined": status.quarantined,
    }


def ref(name: str) -> Schema:
    """A schema by its name among `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def about(schema: Mapping[str, JSON], description: str) -> Schema:
    """The same schema, explained."""
    return {**schema, "description": description}


def nullable(schema: Mapping[str, JSON]) -> Schema:
    """The same schema, or null."""
    kind = schema["type"]
    assert isinstance(kind, str)
    return {**schema, "type": [kind, "null"]}


def record(description: str, properties: Mapping[str, JSON]) -> Schema:
    """An object all of whose properties are always there."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
    }


def list_of(schema: Schema, most: int | None = None) -> Schema:
    listed: Schema = {"type": "array", "items": schema}
    return listed if most is None else {**listed, "maxItems": most}


_PURGED = about(_COUNT, "How many images were dropped.")
_IMAGE: Mapping[str, JSON] = {
    "id": {"type": "string", "description": "The image's id in Glance.", "examples": [_ID]},
    "state": {
        "type": "string",
        "enum": list(STATES),
        "description": "`complete`: every byte is there and the digest is right; `filling`: bytes are being "
        "fetched or checked; `partial`: some bytes are there, and nothing goes on.",
    },
    "size": about(_BYTES, "The image's size in bytes."),
    "bytes_on_disk": about(_BYTES, "How many of its bytes are in the cache."),
    "complete": about(_FLAG, "Whether all of it is there, and verified."),
    "filling": about(_FLAG, "Whether bytes are being fetched or checked."),
    "pinned": about(_FLAG, "Whether it is never evicted."),
    "digest": about(_TEXT, "Algorithm and digest in hex, as Glance has them.")
    | {"examples": ["sha512:6b813aa46bb90b4da216a4d19376593fa3f4fc7e617f03a92b7fe11e9a3981cb"]},
    "hits": about(_COUNT, "How often it was served from the cache alone."),
    "created": about(_TIME, "When it came into the cache, in seconds since the epoch."),
    "last_access": about(nullable(_TIME), "When it was last asked for; null if never."),
    "readers": about(_COUNT, "How many responses are being sent from it."),
    "sources": about(_COUNT, "On behalf of how many clients bytes are being fetched."),
    "rate": about(_RATE, "How fast bytes come from the origin now, per second."),
}

SCHEMAS: Mapping[str, Schema] = {
    "Error": record(
        "Any answer that is no success.",
        {
            "error": record(
                "What went wrong.",
                {
                    "code": {"type": "integer", "minimum": 300, "maximum": 599, "examples": [404]},
                    "title": about(_TEXT, "The status in words.") | {"examples": ["Not Found"]},
                    "message": about(_TEXT, "What to do about it, for people.")
                    | {"examples": ["no such image in this cache"]},
                },
            )
        },
    ),
    "Image": record("An image in the cache, whole or in part.", _IMAGE),
    "ImageDetail": record(
        "An image in the cache, with what is there of it and who reads it.",
        {
            **_IMAGE,
            "extents": about(
                list_of({"type": "array", "items": _BYTES, "minItems": 2, "maxItems": 2}),
                "The bytes that are there, as pairs of first byte and the byte after the last.",
            ),
            "readers_list": about(list_of(ref("Reader")), "The responses that are being sent from it."),
        },
    ),
    "Reader": record(
        "A response on its way to a client.",
        {
            "position": about(_BYTES, "The next byte that will be sent."),
            "start": about(_BYTES, "The first byte that was asked for."),
            "stop": about(_BYTES, "The byte after the last that was asked for."),
            "whole": about(_FLAG, "Whether the whole image was asked for, not a range."),
        },
    ),
    "Images": record(
        "A page of images.",
        {
            "images": list_of(ref("Image"), 1000),
            "total": about(_COUNT, "How many there are on all pages."),
            "next": about(nullable(_TEXT), "Where the next page is; null on the last."),
        },
    ),
    "Purged": record("What a purge came to.", {"purged": _PURGED}),
    "Job": record(
        "A prefetch or a verification.",
        {
            "id": {"type": "integer", "minimum": 0, "examples": [17]},
            "kind": {"type": "string", "enum": [kind.value for kind in JobKind]},
            "image_id": {"type": "string", "examples": [_ID]},
            "state": {"type": "string", "enum": [state.value for state in JobState]},
            "priority": about({"type": "integer"}, "Jobs of a higher priority are begun first."),
            "created": about(_TIME, "When it was queued, in seconds since the epoch."),
            "started": about(nullable(_TIME), "When it was begun; null before."),
            "finished": about(nullable(_TIME), "When it was over; null before."),
            "attempts": about(_COUNT, "How often it was begun."),
            "size": about(nullable(_BYTES), "How many bytes there are to fetch or check; null: unknown."),
            "done": about(_BYTES, "How many of them are done."),
            "rate": about(_RATE, "How many of them are done per second, now."),
            "eta": about(nullable(_RATE), "Seconds until it is over, as it looks now; null: unknown."),
            "error": about(nullable(_TEXT), "Why it failed, the last time it did."),
            "next_try": about(nullable(_TIME), "When it is tried again, if it waits for that."),
        },
    ),
    "Jobs": record(
        "A page of jobs.",
        {
            "jobs": list_of(ref("Job"), 1000),
            "total": about(_COUNT, "How many there are on all pages."),
            "next": about(nullable(_TEXT), "Where the next page is; null on the last."),
        },
    ),
    "Queued": record(
        "What was queued, or was in the queue already.",
        {
            "jobs": about(list_of(ref("Job"), 1000), "The first thousand of these jobs."),
            "ids": about(list_of(_COUNT), "The numbers of all of them."),
            "total": about(_COUNT, "How many there are."),
        },
    ),
    "Cancelled": record(
        "What clearing the queue came to.", {"cancelled": about(_COUNT, "How many jobs were cancelled.")}
    ),
    "Freed": record(
        "What was deleted from the disk.",
        {"files": about(_COUNT, "How many files."), "bytes": about(_BYTES, "How much room that gives.")},
    ),
    "Quarantine": record("The bodies in quarantine.", {"files": list_of(ref("QuarantineFile"))}),
    "QuarantineFile": record(
        "A body that failed verification and was put aside.",
        {
            "name": about(_TEXT, "Its file's name."),
            "image_id": about(nullable(_TEXT), "Which image it was taken for, where that is known."),
            "size": about(_BYTES, "The file's length."),
            "allocated": about(_BYTES, "How much room it takes on disk."),
            "time": about(_TIME, "When it was put aside, in seconds since the epoch."),
        },
    ),
    "Event": record(
        "Something that happened in the cache.",
        {
            "id": about(_TEXT, "The process and the serial: no other event of this node has it.")
            | {"examples": ["5e0c94d1-17"]},
            "serial": about(_COUNT, "Grows by one with each event of a process, from 1 on."),
            "time": about(_TIME, "When, in seconds since the epoch."),
            "kind": about(_TEXT, "What, in a word.") | {"examples": ["evicted", "verification-failed"]},
            "image_id": about(_TEXT, "To which image."),
            "detail": about(_TEXT, "More about it, for people; may be empty."),
        },
    ),
    "Events": record("The latest events, the newest last.", {"events": list_of(ref("Event"))}),
    "Counters": {
        "type": "object",
        "description": "How often what happened since the process started, by name; bytes where it says so.",
        "additionalProperties": _COUNT,
        "examples": [{"hits": 812, "misses": 31, "bytes_served": 1099511627776}],
    },
    "Sizes": record(
        "What the cache takes and may take, in bytes.",
        {
            "bytes_on_disk": about(_BYTES, "What images take."),
            "reserved": about(_BYTES, "What has been promised to fills and is still to come."),
            "max_size": about(_BYTES, "The most that images may take."),
            "min_free": about(_BYTES, "What is always left on the disk."),
            "disk_free": about(_BYTES, "What was free on the disk at the last look."),
            "quarantined": about(_BYTES, "What the quarantine takes."),
        },
    ),
    "Node": record(
        "This node and its cache.",
        {
            "node": about(_TEXT, "The host's name."),
            "version": about(_TEXT, "The version of the service."),
            "uptime": about(_RATE, "Seconds since it started."),
            "origin": about(_TEXT, "The Glance API that it stands in front of.")
            | {"examples": ["http://glance:9292"]},
            "auth": about(_TEXT, "How this site knows its operators.") | {"examples": ["none", "keystone"]},
            "entries": about(_COUNT, "How many images are in the cache, whole or in part."),
            "sizes": ref("Sizes"),
            "counters": ref("Counters"),
            "jobs": record(
                "The queue, in numbers.",
                {"queued": about(_COUNT, "Jobs that wait."), "running": about(_COUNT, "Jobs under way.")},
            ),
            "events": about(list_of(ref("Event"), 100), "The latest events, the newest last."),
        },
    ),
    "Health": record("The process answers.", {"status": {"type": "string", "const": "ok"}}),
    "Readiness": record(
        "Whether the node can do its work.",
        {
            "ready": about(_FLAG, "Whether every check is passed."),
            "checks": record(
                "Each check by its name.",
                {
                    "origin": about(ref("Check"), "The origin answers."),
                    "disk": about(ref("Check"), "The cache directory can be written."),
                    "room": about(ref("Check"), "There is room for images, or could be made."),
                },
            ),
        },
    ),
    "Check": record(
        "One check.",
        {
            "ok": _FLAG,
            "detail": about(_TEXT, "What was found, for people."),
            "seconds": about(_RATE, "How long it took."),
        },
    ),
}
