"""A real OpenStack on loopback for the integration tests and for the demonstration: Keystone, Glance and
Swift from PyPI, in a virtual environment of their own.

`install` puts the packages into the checkout's `.cloud` once; `keystone`, `glance` and `swift` each configure
and start one service; `cloud` composes them. `relay` stands between the proxy and Glance and sees what
crosses the wire; `proxy` is the `twistd` under test; `client` downloads. Nothing here imports the product: it
is met over HTTP only."""
