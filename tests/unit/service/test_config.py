"""Settings from files and flags, and the one line for each way to get them wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from attrs import fields
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import given
from hypothesis import strategies as st

from txglancecache.errors import ConfigurationError
from txglancecache.service.config import Settings, load
from txglancecache.service.options import OPTIONS, flag, list_opts

GIB = 1024**3
NEEDED = {"origin": "http://glance:9292", "cache_dir": "/var/cache/glance"}


def write(tmp_path: Path, text: str, name: str = "node.conf") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def refused(flags: dict[str, str] | None = None, *files: str) -> str:
    """The message that these settings are refused with; always one line."""
    with pytest.raises(ConfigurationError) as caught:
        load(files, flags)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults() -> None:
    """Two settings are enough; the rest has defaults."""
    assert load((), NEEDED) == Settings(
        origin="http://glance:9292",
        listen="tcp:9393",
        manage="tcp:9394:interface=127.0.0.1",
        trusted_proxies=(),
        cache_dir="/var/cache/glance",
        max_size=10 * GIB,
        min_free=GIB,
        max_entries=100_000,
        finish_fills=True,
        authorization_ttl=10.0,
        revalidate_after=300.0,
        digest_check="before",
        manage_auth="none",
        keystone_url=None,
        keystone_ca_file=None,
        keystone_ttl=10.0,
        manage_ca_file=None,
        manage_subjects=None,
        policy_file=None,
        cache_api_on_data_site=False,
        origin_ca_file=None,
        origin_cert_file=None,
        origin_key_file=None,
        origin_connections=256,
        origin_connect_timeout=10.0,
        origin_timeout=60.0,
        origin_min_rate=1024,
        fill_retries=10,
        jobs_at_once=2,
        job_attempts=5,
        max_connections=4096,
        manage_connections=128,
        max_requests_per_client=1024,
        max_line_size=64 << 10,
        max_head_size=128 << 10,
        max_head_fields=500,
        head_timeout=30.0,
        idle_timeout=60.0,
        body_timeout=60.0,
        stall_timeout=300.0,
        min_rate=1024,
        access_log=True,
        takeover_wait=10.0,
        shutdown_grace=30.0,
    )


def test_every_option_is_a_setting() -> None:
    """No option is declared that nothing reads, and no setting lacks an option."""
    assert {*OPTIONS, "config_files"} == {field.name for field in fields(Settings)}
    assert [opt.name for opt in list_opts()[0][1]] == list(OPTIONS)


def test_every_option_explains_itself() -> None:
    """Each option has a help text and names its argument."""
    assert all(opt.help and opt.metavar for opt in OPTIONS.values())


def test_file(tmp_path: Path) -> None:
    """A file sets values in the words of an oslo.config INI file, whatever else it holds."""
    path = write(
        tmp_path,
        "[DEFAULT]\ndebug = true\n[glancecache]\norigin = https://images.example:443\ncache_dir = /srv/c\n"
        "max_size = 1.5TiB\nfinish_fills = no\ntrusted_proxies = 10.0.0.1, 10.1.2.3/16,::1\n"
        "authorization_ttl = 0\nlisten = ssl:9393:privateKey=/k.pem\n",
    )
    settings = load([path])
    assert settings.origin == "https://images.example:443"
    assert settings.max_size == 1536 * GIB
    assert settings.finish_fills is False
    assert settings.trusted_proxies == ("10.0.0.1/32", "10.1.0.0/16", "::1/128")
    assert settings.authorization_ttl == 0
    assert settings.listen == "ssl:9393:privateKey=/k.pem"


def test_precedence(tmp_path: Path) -> None:
    """A flag beats every file, and a later file beats an earlier one."""
    first = write(tmp_path, "[glancecache]\nmax_entries = 1\nfill_retries = 1\nshutdown_grace = 1\n", "1")
    second = write(tmp_path, "[glancecache]\nmax_entries = 2\nfill_retries = 2\n", "2")
    settings = load([first, second], {**NEEDED, "max_entries": "3"})
    assert (settings.max_entries, settings.fill_retries, settings.shutdown_grace) == (3, 2, 1.0)


def test_flags_are_literal(tmp_path: Path) -> None:
    """A file's values may refer to each other; a flag with a dollar sign is what it says."""
    path = write(tmp_path, "[glancecache]\ncache_dir = /srv/cache\nlisten = unix:$cache_dir/socket\n")
    flags = {"origin": "http://glance", "manage": "unix:/run/$cache_dir"}
    settings = load([path], flags)
    assert (settings.listen, settings.manage) == ("unix:/srv/cache/socket", "unix:/run/$cache_dir")


def test_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read but what was passed in."""
    monkeypatch.setenv("OS_GLANCECACHE__MAX_ENTRIES", "7")
    monkeypatch.setattr("sys.argv", ["twistd", "--config-file", "/nonexistent"])
    assert load((), NEEDED).max_entries == 100_000


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the directory that the command was given in, though a daemon may leave it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/op")
    settings = load((), {**NEEDED, "cache_dir": "cache", "origin_ca_file": "~/ca.pem"})
    assert (settings.cache_dir, settings.origin_ca_file) == (str(tmp_path / "cache"), "/home/op/ca.pem")


def test_who_may(tmp_path: Path) -> None:
    """Subjects of certificates are kept in one way of writing them; Keystone may have a path."""
    subjects = "CN=operator,O=Example\\, Inc; CN=prometheus ;"
    path = write(tmp_path, f"[glancecache]\nmanage_subjects = {subjects}\npolicy_file = policy.yaml\n")
    settings = load([path], {**NEEDED, "keystone_url": "https://cloud.example/identity/v3/"})
    assert settings.manage_subjects == ("CN=operator,O=Example\\, Inc", "CN=prometheus")
    assert settings.keystone_url == "https://cloud.example/identity/v3"


def test_subjects_as_openssl_prints_them(tmp_path: Path) -> None:
    """What it shows of a certificate is what may be written: other names, another order, other escapes."""
    subject = (
        "/C=DE/ST=By/street=a 1/postalCode=1/L=M/O=Example; Inc, \\+ Co/OU=o/DC=ex/UID=u/serialNumber=7/SN=D"
        "/GN=Jo/title=Dr/initials=JD/generationQualifier=III/dnQualifier=q/pseudonym=p/name=n/description=d"
        "/businessCategory=b/jurisdictionC=DE/jurisdictionL=l/jurisdictionST=s/organizationIdentifier=i"
        "/unstructuredName=u/postalAddress=a/telephoneNumber=1/houseIdentifier=h/role=r"
        "/emailAddress=op@example.org/CN=opérator+OU=x+serialNumber=9"
    )
    pem, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-utf8"]
    files = ["-keyout", str(key), "-out", str(pem)]
    subprocess.run(
        ["openssl", "req", "-x509", *options, *files, "-subj", subject], check=True, capture_output=True
    )
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in", str(pem)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    written = shown.strip().removeprefix("subject=")
    assert "emailAddress=op@example.org" in written
    path = write(tmp_path, f"[glancecache]\nmanage_subjects = CN=other; {written};CN=another\n")
    settings = load([path], NEEDED)
    certificate = load_pem_x509_certificate(pem.read_bytes())
    assert settings.manage_subjects == ("CN=other", certificate.subject.rfc4514_string(), "CN=another")


@pytest.mark.parametrize(
    ("auth", "given", "said"),
    [
        ("keystone", {}, "--manage-auth keystone needs --keystone-url URL"),
        ("certificate", {"policy_file": "p"}, "--manage-auth certificate needs --manage-ca-file FILE"),
        (
            "certificate",
            {"manage_ca_file": "ca.pem", "manage_subjects": ";"},
            "--manage-auth certificate needs --manage-subjects SUBJECTS or --policy-file FILE",
        ),
    ],
)
def test_what_goes_with_what(auth: str, given: dict[str, str], said: str) -> None:
    """A way to know callers that could let nobody in is refused."""
    assert refused({**NEEDED, **given, "manage_auth": auth}) == said
    assert load((), {**NEEDED, **given}).manage_auth == "none"


@pytest.mark.parametrize("name", ["origin", "cache_dir"])
def test_missing(name: str) -> None:
    """What has no sensible default is asked for."""
    message = refused({key: value for key, value in NEEDED.items() if key != name})
    assert message == f"{name} is not set: give {flag(name)} {OPTIONS[name].metavar}"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_size", "lots", "is not a size"),
        ("max_size", "0", "at least 1"),
        ("min_free", "-1", "is not a size"),
        ("max_entries", "0", "1"),
        ("max_entries", "many", "many"),
        ("finish_fills", "perhaps", "perhaps"),
        ("authorization_ttl", "-1", "between 0 and"),
        ("authorization_ttl", "nan", "between 0 and"),
        ("revalidate_after", "inf", "between 0 and"),
        ("shutdown_grace", "soon", "'soon' is not a number of seconds"),
        ("origin_timeout", "0", "between 0.001 and"),
        ("trusted_proxies", "10.0.0.0/99", "10.0.0.0/99"),
        ("origin", "glance:9292", "'glance:9292' is not of the form http://HOST[:PORT]"),
        ("origin", "ftp://glance", "is not of the form"),
        ("origin", "http://", "is not of the form"),
        ("origin", "http://glance:port", "is not of the form"),
        ("origin", "http://[::1", "is not of the form"),
        ("origin", "http://glance/v2", "scheme, host and port only"),
        ("origin", "http://me:secret@glance", "scheme, host and port only"),
        ("manage_auth", "password", "password"),
        ("keystone_ttl", "31", "between 0 and 30"),
        ("keystone_url", "keystone:5000", "is not of the form"),
        ("keystone_url", "http://keystone:port", "is not of the form"),
        ("keystone_url", 'http://keystone/"v3', "is not of the form"),
        ("keystone_url", "http://keystone/v3?x=1", "scheme, host, port and path only"),
        ("keystone_url", "http://me:secret@keystone", "scheme, host, port and path only"),
        ("manage_subjects", "operator", "is no subject of a certificate"),
        ("manage_subjects", "CN=a;colour=blue", "'colour=blue' is no subject of a certificate"),
        ("manage_subjects", "CN=a\\", "is no subject of a certificate"),
    ],
)
def test_wrong_values(tmp_path: Path, name: str, value: str, said: str) -> None:
    """A wrong value is named together with its flag, or with its file when it came from there."""
    message = refused({**NEEDED, name: value})
    assert message.startswith(f"{flag(name)}: ")
    assert said in message
    path = write(tmp_path, f"[glancecache]\n{name} = {value}\n")
    others = {key: text for key, text in NEEDED.items() if key != name}
    message = refused(others, path)
    assert name in message
    assert path in message
    assert said in message


def test_origin_with_a_slash() -> None:
    """The slash that people leave at the end of an URL does no harm."""
    assert load((), {**NEEDED, "origin": "http://[::1]:9292/"}).origin == "http://[::1]:9292"


def test_unknown_option_in_file(tmp_path: Path) -> None:
    """A misspelt option is refused, with the one that was probably meant."""
    path = write(tmp_path, "[glancecache]\nmax-size = 1GiB\n")
    assert (
        refused(NEEDED, path) == f"{path}: unknown option max-size in [glancecache]; did you mean max_size?"
    )
    path = write(tmp_path, "[GlanceCache]\nxyzzy = 1\n")
    assert refused(NEEDED, path) == f"{path}: unknown option xyzzy in [glancecache]"


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is absent, no text, no INI file or without the section is refused."""
    absent = str(tmp_path / "absent.conf")
    assert refused(NEEDED, absent) == f"cannot read {absent}: No such file or directory"
    assert refused(NEEDED, str(tmp_path)) == f"cannot read {tmp_path}: Is a directory"
    binary = tmp_path / "binary.conf"
    binary.write_bytes(b"[glancecache]\n\xff\xfe\n")
    assert refused(NEEDED, str(binary)) == f"cannot read {binary}: it is not UTF-8 text"
    broken = write(tmp_path, "[glancecache]\nno assignment\n")
    assert refused(NEEDED, broken).startswith(f"cannot read {broken}: at ")
    other = write(tmp_path, "[DEFAULT]\norigin = http://glance\n")
    assert refused(NEEDED, other) == f"{other} has no [glancecache] section"


@given(st.sampled_from(sorted(OPTIONS)), st.text())
def test_any_text_is_valid_or_refused_in_one_line(name: str, value: str) -> None:
    """Whatever is given to a flag, the outcome is settings or one line."""
    try:
        load((), {**NEEDED, name: value})
    except ConfigurationError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("auth", ["none", "certificate"])
def test_cache_api_on_data_site(auth: str) -> None:
    """What everybody reaches is managed by those only who have a token."""
    flags = {**NEEDED, "manage_auth": auth, "manage_ca_file": "ca.pem", "manage_subjects": "CN=o"}
    flags |= {"keystone_url": "http://keystone/v3", "cache_api_on_data_site": "yes"}
    assert refused(flags) == "--cache-api-on-data-site needs --manage-auth keystone"
    assert load((), {**flags, "manage_auth": "keystone"}).cache_api_on_data_site is True
