#!/usr/bin/env bash
# The contract with Debian's Azure SDK for Python. Here its absence is a failure: CI installs it before
# (apt-get install -y python3-azure); `npm test` skips the same test by name where it is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
/usr/bin/python3 -c 'import azure.keyvault.secrets, azure.identity' ||
  { echo 'python3-azure is missing: apt-get install -y python3-azure' >&2; exit 1; }
exec npx --no-install vitest run test/contract/python-sdk.test.ts
