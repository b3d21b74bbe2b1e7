"""The words of each language that a target reads: generators put them together, knowing no grammar."""

# ruff: noqa: E501 - lists of words read better on one line

from __future__ import annotations

Words = tuple[bytes, ...]

YAML: Words = (
    b": ", b"\n", b"\n  ", b"\n  - ", b"- ", b"'", b'"', b"#", b"&a ", b"*a", b"!!str ", b"|\n", b">-\n",
    b"{", b"}", b"[", b"]", b",", b"? ", b"---\n", b"...\n", b"%YAML 1.1\n", b"\\x00", b"\\ud800",
    b"true", b"null", b"~", b"0x1F", b"1e3", b"1:30", b"<<", b"\xef\xbb\xbf", b"\t", b"\r\n", b"\xe2\x80\xa8",
)  # fmt: skip
SPEC: Words = (
    b"version: 1\n", b"name: digits\n", b"run: python train.py\n", b"image:\n", b"resources:\n", b"gpu: ",
    b"l4", b"count: 2", b"outputs:\n", b"path: outputs\n", b"data:\n", b"source: ", b"hf://a/b@main",
    b"secrets: [TOKEN]\n", b"env:\n", b"max_cost: 5 USD\n", b"max_duration: 2h\n", b"on:\n", b"push:\n",
    b"retry:\n", b"checkpoint:\n", b"nodes: 2\n", b"spot: true\n", b"gates:\n", b"python: \"3.11\"\n",
)  # fmt: skip
POLICY: Words = (
    b"version: 1\n", b"rights:\n", b"run: write\n", b"cancel: {role: maintain, people: [ada]}\n", b"limits:\n",
    b"gpus: [l4, \"a100:2\"]\n", b"max_cost: 20.00\n", b"max_duration: 8h\n", b"monthly_budget: 500\n",
    b"approval:\n", b"cost: 10.00\n", b"by: maintain\n", b"superseded:\n", b"branch: finish\n", b"forks:\n",
    b"retention:\n", b"keep_warm: 10m\n", b"extend: 2h\n", b"live_runs: 4\n", b"nodes: 2\n", b"providers: [gcp]\n",
)  # fmt: skip
MARKDOWN: Words = (
    b"/cynthus", b"/cynthus run", b"\n", b"\n\n", b"```", b"~~~", b"`", b"``", b"> ", b"- ", b"1. ", b"    ",
    b"<!--", b"-->", b"<details>", b"</details>", b"<pre>", b"</pre>", b"<script>", b"[x](y", b'"', b")",
    b"[x]: y", b"~~", b"<a title='", b"<?", b"<![CDATA[", b"&#96;", b"\\", b"| a |", b"@ada", b"::error::",
    b"\r", b"\t", b"\x1b[2K", b"\xe2\x80\x8b", b"www.a.b", b"https://a", b"$", b"##[error]",
    b"```.`", b"  ```", b"~~~```", b"&#64;ada", b"&commat;", b"<b>", b"&amp;",
)  # fmt: skip
ASK: Words = (
    b"/cynthus ", b"run ", b"plan ", b"sweep ", b"logs ", b"retry ", b"extend ", b"compare ", b"approve ",
    b"reproduce ", b"cancel ", b"lr=", b"0.1,0.2", b"1..3", b"..2", b"'", b'"', b"\\", b"--last ", b"--grep ",
    b"--on-demand", b"--", b"=", b"digits", b"digits/3", b"cynthus/digits/3", b"digits#3", b"0123456789abcdef",
    b"1h30m", b",", b" ", b"\t", b"gpu.count=2", b"env/A=b", b"\xc2\xa0",
)  # fmt: skip
COMMANDS: Words = (
    b"::", b"::error ", b"::add-mask::", b"::stop-commands::x", b"::x::", b"##[", b"file=a.py,line=3",
    b"title=", b",", b"=", b"%0A", b"%0D", b"%25", b"%3A", b"\n", b"\r", b"\x00", b"\xe2\x80\xa8", b"\x0b",
    b"\x85", b"name=loss,step=1", b"::metric ", b"::progress::", b"::phase::", b"1e999", b"0.5", b"nan", b" ",
    b"cynthus_0123456789abcdef", b"<<EOF", b"::group::", b"::endgroup::", b"::set-env name=A::b",
)  # fmt: skip
SECRETS: Words = (
    b"\xff", b"hunter2", b"abcabcab", b"bcab", b"a", b"b", b"c", b"ab", b" ", b"\n", b"\r\n", b"/", b"+", b'"',
    b"\\", b"%2F", b"aHVudGVyMg", b"68756e74657232", b"\xc3\xa9", b"hun", b"ter2", b"password",
)  # fmt: skip
JSON: Words = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"true", b"1", b"-1", b"1.5", b"1e999", b"NaN", b"1e400",
    b"9223372036854775808", b'"\\ud800"', b'"\\u0000"', b"[]", b"{}", b'"2026-01-31T12:00:00Z"',
    b'"0001-01-01T00:00:00+23:59"', b'"1E+99999999"', b"1" + b"0" * 400, b'""',
)  # fmt: skip
GITHUB: Words = (
    b'"action":', b'"repository":', b'"id":', b'"owner":', b'"full_name":"a/b"', b'"default_branch":"main"',
    b'"sender":', b'"login":"ada"', b'"type":"User"', b'"head":', b'"sha":', b'"ref":"refs/heads/x"',
    b'"after":"' + b"a" * 40 + b'"', b'"commits":[]', b'"comment":', b'"body":"/cynthus run"', b'"issue":',
    b'"pull_request":', b'"check_run":', b'"installation":', b'"created"', b'"number":', b'"release":',
)  # fmt: skip
HTTP: Words = (
    b"Content-Type: application/json\n", b"X-Hub-Signature-256: SIGN\n", b"X-GitHub-Event: push\n", b"\n\n", b"|",
    b"X-GitHub-Delivery: 11111111-1111\n", b"Content-Length: 2\n", b"Transfer-Encoding: chunked\n", b"{}", b"\xff",
    b"content-encoding: gzip\n", b"X-Hub-Signature: sha1=0\n", b"sha256=", b"SIGN", b"ping", b": ", b"\n", b"0" * 64,
)  # fmt: skip
WIRE: Words = (
    b'"seq":1', b'"sent_at":', b'"state":"running"', b'"events":', b'"kind":"log"', b'"body":', b'"at":',
    b'"exit":', b'"code":', b'"outputs":', b'"path":"a"', b'"size_bytes":', b'"sha256":"x"', b'"instance":"i"',
    b'"secret":"s"', b'"nonce":"n"', b'"agent_version":"1"', b'"facts":', b'"engine":"docker"', b'"cpu_count":',
    b'"memory_bytes":', b'"disk_free_bytes":', b'"gpus":', b'"deadline_s":', b'"accepted_seq":1', b'"masks":',
    b'"url":null', b'"expires_at":', b'"most_usd":', b'"command":', b'"attempt":', b'"spec_text":"a"',
)  # fmt: skip
CLAIMS: Words = (
    b'{"alg":"RS256","kid":"k1","typ":"JWT"}\n', b'"alg":"none"', b'"alg":"HS256"', b'"kid":', b'"crit":["b64"]',
    b'"jwk":{}', b'"b64":false', b'"iss":', b'"aud":"cynthus"', b'"exp":', b'"iat":', b'"nbf":', b'"sub":', b".",
    b"eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIn0", b'"repository":"acme/digits"', b'"event_name":"push"', b"1795176000",
    b'"keys":', b'"kty":"RSA"', b'"n":"AQAB"', b'"e":"AQAB"', b'"use":"sig"', b'"x5u":"https://a"',
)  # fmt: skip
DOCKER: Words = (
    b"FROM ", b"debian", b" AS a\n", b"COPY ", b"ADD ", b"RUN ", b"ARG ", b"ENV ", b"--from=a ", b"--mount=type=",
    b"bind,source=", b"secret,id=x", b",from=", b"<<EOF\n", b"EOF\n", b"\\\n", b"# escape=`\n", b"# syntax=x\n",
    b"${A:-b}", b"$A", b"A=b", b"[\"a\",\"b\"]", b". ", b"../", b"/x/\n", b"*", b"**", b"'", b'"', b"`", b"\n",
    b"https://a/b", b"ONBUILD ", b"scratch", b"0", b"=", b" ", b"\r\n", b"\xef\xbb\xbf",
)  # fmt: skip
PIP: Words = (
    b"numpy", b"torch", b"==1.0", b">=2,<3", b"[extra]", b" ; python_version < '3.12'", b" --hash=sha256:" + b"a" * 64,
    b"-r other.txt", b"-c ", b"-e .", b"--index-url https://a", b"git+https://a/b", b" @ ", b"\\\n", b"\n", b" # c",
    b"#", b"./a", b"a.whl", b"--", b"-", b";", b"===", b"~=", b"*", b"\xef\xbb\xbf", b"\xff\xfe", b"\x0c", b"\x1c",
    b"\xe2\x80\xa8", b"--no-binary :all:", b"$A", b"${A}", b"(", b")", b"'", b'"', b" or ", b"extra == 'a'",
)  # fmt: skip
REFERENCE: Words = (
    b"ghcr.io", b"docker.io", b"index.docker.io", b"localhost:5000", b"[::1]:5000", b"/", b"library", b"acme", b":",
    b"@sha256:" + b"a" * 64, b"latest", b"a", b"A", b"_", b"__", b"-", b".", b"\n", b"%2e", b"127.0.0.1",
)  # fmt: skip
REGISTRY: Words = (
    b"401\n", b"429\n", b"503\n", b"404\n", b"413\n", b"120\n", b"Fri, 31 Dec 9999 23:59:59 GMT\n", b"\n", b"inf",
    b'Bearer realm="https://ghcr.io/token",service="ghcr.io"\n', b"Basic realm=x\n", b"http://[", b"https://a@b",
    b'{"errors":[{"code":"DENIED","message":"no","detail":{"Err":1}}]}', b'{"tags":', b'{"token":"a","expires_in":',
    b"MANIFEST_BLOB_UNKNOWN", b"sha256:" + b"a" * 64, b"<html>", b'"', b"\\", b",", b"=", b"-0000", b"+2359",
)  # fmt: skip
