"""What there is to be allowed: Glance's rules for its cache, and those of the native API beside them.

``oslopolicy-sample-generator --namespace txglancecache`` reads them from here. A rule that Glance has goes by
Glance's name and default; each of the others defaults to the one of Glance's that comes closest.
"""

from __future__ import annotations

from oslo_policy.policy import DocumentedRuleDefault, RuleDefault

_ADMIN = "role:admin"


def _rule(name: str, check: str, description: str, *operations: str) -> DocumentedRuleDefault:
    return DocumentedRuleDefault(
        name=name,
        check_str=check,
        # As in Glance. A caller with a certificate counts as one of a project.
        scope_types=["project"],
        description=description,
        operations=[
            {"method": method, "path": path}
            for method, _, path in (operation.partition(" ") for operation in operations)
        ],
    )


RULES: tuple[DocumentedRuleDefault, ...] = (
    _rule(
        "cache_list",
        _ADMIN,
        "See what is cached, what is queued and what happens",
        "GET /cache",
        "GET /cache/openapi.json",
        "GET /cache/images",
        "GET /cache/images/{id}",
        "GET /cache/jobs",
        "GET /cache/jobs/{id}",
        "GET /cache/events",
        "GET /v2/cache",
    ),
    _rule(
        "cache_image",
        _ADMIN,
        "Queue images for caching",
        "POST /cache/prefetch",
        "PUT /v2/cache/{id}",
    ),
    _rule(
        "cache_delete",
        _ADMIN,
        "Drop images from the cache, and jobs from the queue",
        "DELETE /cache/images",
        "DELETE /cache/images/{id}",
        "DELETE /cache/jobs",
        "DELETE /cache/jobs/{id}",
        "DELETE /v2/cache",
        "DELETE /v2/cache/{id}",
    ),
    _rule(
        "cache_clean",
        _ADMIN,
        "Drop what is incomplete and left behind",
        "POST /cache/clean",
        "POST /v2/cache/clean",
    ),
    _rule(
        "cache_prune",
        _ADMIN,
        "Make the cache smaller",
        "POST /cache/prune",
        "POST /v2/cache/prune",
    ),
    _rule(
        "list_cached_nodes",
        _ADMIN,
        "See on which nodes an image is cached",
        "GET /v2/cache/nodes/{id}",
    ),
    _rule(
        "manage_image_cache",
        _ADMIN,
        "Use the paths of Glance's older cache management, and any that no other rule is about",
        "GET /v2/cached_images",
        "DELETE /v2/cached_images",
        "DELETE /v2/cached_images/{id}",
        "GET /v2/queued_images",
        "PUT /v2/queued_images/{id}",
        "DELETE /v2/queued_images",
        "DELETE /v2/queued_images/{id}",
    ),
    _rule(
        "cache_pin",
        "rule:cache_image",
        "Pin images, so that nothing but an operator drops them",
        "PUT /cache/images/{id}/pin",
        "DELETE /cache/images/{id}/pin",
    ),
    _rule(
        "cache_verify",
        "rule:cache_image",
        "Have cached images read and compared with their digests again",
        "POST /cache/verify",
        "POST /cache/images/{id}/verify",
    ),
    _rule(
        "cache_quarantine",
        "rule:cache_clean",
        "See and delete the files that failed their verification",
        "GET /cache/quarantine",
        "DELETE /cache/quarantine",
    ),
    _rule(
        "cache_metrics",
        "rule:cache_list",
        "Read figures about the node, and whether it is ready",
        "GET /metrics",
        "GET /cache/counters",
        "GET /cache/ready",
    ),
)


def list_rules() -> list[RuleDefault]:
    """What the tools of oslo.policy ask for."""
    return list(RULES)
