"""A reader's bytes onto a client's connection: sendfile where it can, copying where it must."""
