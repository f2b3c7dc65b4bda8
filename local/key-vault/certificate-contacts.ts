import { z } from 'zod';
import { parseBody } from './bundles.ts';
import { certificateErrors } from './certificate-errors.ts';
import type { Answer, Call, Operation } from './operation.ts';
import type { Vault } from './vault.ts';

/** Who is told of what happens to the certificates of a vault. */
export type Contact = { readonly email: string; readonly name?: string; readonly phone?: string };

const Text = z.string().max(1024).nullish();
const Contacts = z.object({
  contacts: z
    .array(z.object({ email: z.string().min(1).max(1024), name: Text, phone: Text }))
    .min(1)
    .max(1000),
});
const template = '/certificates/contacts';
const action = 'certificatecontacts/write';

export const contactOperations: readonly Operation[] = [
  {
    id: 'setCertificateContacts',
    serviceName: 'CertificateContactsSet',
    method: 'PUT',
    effect: 'write',
    template,
    action,
    run: setContacts,
  },
  {
    id: 'getCertificateContacts',
    serviceName: 'CertificateContactsGet',
    method: 'GET',
    effect: 'read',
    template,
    action,
    run: ({ vault }) => ({ body: describeContacts(vault, contactsOf(vault)) }),
  },
  {
    id: 'deleteCertificateContacts',
    serviceName: 'CertificateContactsDelete',
    method: 'DELETE',
    effect: 'write',
    template,
    action,
    run: deleteContacts,
  },
];

function setContacts(call: Call): Answer {
  const { contacts } = parseBody(Contacts, call.body);
  call.vault.certificateSettings.contacts = contacts.map(({ email, name, phone }) => ({
    email,
    ...(name ? { name } : {}),
    ...(phone ? { phone } : {}),
  }));
  call.changed();
  return { body: describeContacts(call.vault, contactsOf(call.vault)) };
}

/** Answers with those that were. */
function deleteContacts(call: Call): Answer {
  const { vault } = call;
  const contacts = contactsOf(vault);
  vault.certificateSettings.contacts = [];
  call.changed();
  return { body: describeContacts(vault, contacts) };
}

function contactsOf({ certificateSettings: { contacts } }: Vault): readonly Contact[] {
  if (contacts.length === 0) throw certificateErrors.contactsNotFound();
  return contacts;
}

function describeContacts({ publicUrl }: Vault, contacts: readonly Contact[]): unknown {
  return { id: `${publicUrl}/certificates/contacts`, contacts };
}
