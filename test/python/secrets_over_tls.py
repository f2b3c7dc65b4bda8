"""Debian's Azure SDK for Python against the emulator: sets, gets, lists, backs up, deletes, recovers and restores.

Prints one JSON line with what it found; any surprise ends it with a stack trace.

usage: secrets_over_tls.py VAULT_URL CA_FILE
"""

import json
import sys

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient


def refused(kind, call):
    """The message with which the call is refused; that it is not refused is an error."""
    try:
        call()
    except kind as error:
        return error.message
    raise AssertionError("the call was not refused")


def main(vault_url, ca_file):
    client = SecretClient(
        vault_url,
        ManagedIdentityCredential(),
        verify_challenge_resource=False,
        connection_verify=ca_file,
    )
    first = client.set_secret("python", "one", tags={"by": "python"}, content_type="text/plain")
    client.set_secret("python", "zwei ✓")
    found = {
        "value": client.get_secret("python").value,
        "earlier": client.get_secret("python", first.properties.version).value,
        "tags": client.get_secret("python", first.properties.version).properties.tags,
        "versions": len(list(client.list_properties_of_secret_versions("python"))),
    }
    for index in range(30):
        client.set_secret(f"python-{index}", str(index))
    found["listed"] = len([1 for item in client.list_properties_of_secrets()])
    client.update_secret_properties("python-0", enabled=False)
    found["disabled"] = refused(HttpResponseError, lambda: client.get_secret("python-0"))
    found["absent"] = refused(ResourceNotFoundError, lambda: client.get_secret("absent"))

    backup = client.backup_secret("python")
    client.begin_delete_secret("python").wait()
    found["deleted"] = [item.name for item in client.list_deleted_secrets()]
    found["taken"] = refused(ResourceExistsError, lambda: client.set_secret("python", "x"))
    client.begin_recover_deleted_secret("python").wait()
    found["recovered"] = client.get_secret("python").value
    client.begin_delete_secret("python").wait()
    client.purge_deleted_secret("python")
    restored = client.restore_secret_backup(backup)
    found["restored"] = [restored.name, client.get_secret("python").value]
    found["restoredVersions"] = len(list(client.list_properties_of_secret_versions("python")))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
