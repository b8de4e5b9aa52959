#!/bin/sh
# Makes up the secrets of compose.yaml: `sh deploy/compose/secrets.sh [DIRECTORY]`, once, before the first start.
# What is there stays as it is. Nothing is printed but names of files: the API's token stands in `api-token`.
set -eu

directory=${1:-$(dirname "$0")/secrets}
if [ -e "$directory" ]; then
    echo "error: $directory is there already; remove it to make up new secrets (and the volumes that were made with" \
        "the old ones: docker compose down --volumes)" >&2
    exit 1
fi

random() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

sha256() { # of standard input; macOS has no sha256sum
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

# Containers run as users of their own and see these files as they are, so all may read them: the directory is what
# keeps others out.
umask 022
made=$directory.new
rm -rf "$made"
mkdir -m 0700 "$made"
for name in clickhouse-password grafana-clickhouse-password grafana-password api-token; do
    random >"$made/$name"
done

cat >"$made/clickhouse-users.xml" <<XML
<clickhouse>
  <profiles><reader><readonly>2</readonly></reader></profiles>
  <users>
    <default remove="remove"/>
    <rater>
      <password_sha256_hex>$(sha256 <"$made/clickhouse-password")</password_sha256_hex>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </rater>
    <grafana>
      <password_sha256_hex>$(sha256 <"$made/grafana-clickhouse-password")</password_sha256_hex>
      <networks><ip>::/0</ip></networks>
      <profile>reader</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SELECT ON rater.*</query>
      </grants>
    </grafana>
  </users>
</clickhouse>
XML
cat >"$made/tokens.yaml" <<YAML
tokens:
- {name: compose, sha256: $(sha256 <"$made/api-token"), roles: [admin, push]}
YAML

mv "$made" "$directory"
echo "made: secrets in $directory"
