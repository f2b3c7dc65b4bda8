import { BlockList, isIP } from 'node:net';
import { z } from 'zod';

const Address = z.string().refine((text) => isIP(text) !== 0, { message: 'no IP address' });
const AddressRange = z.string().refine((text) => rangeOf(text) !== null, {
  message: 'neither an IP address nor a range like 10.0.0.0/8',
});

/** Network rules of a vault, in the words of Azure Resource Manager. */
export const Firewall = z.strictObject({
  publicNetworkAccess: z.enum(['Enabled', 'Disabled']).default('Enabled'),
  defaultAction: z.enum(['Allow', 'Deny']).default('Allow'),
  ipRules: z.array(AddressRange).max(1000).default([]),
  /** Where all calls are taken to come from: everything on this machine is 127.0.0.1. */
  clientAddress: Address.optional(),
});
export type Firewall = z.output<typeof Firewall>;

export type FirewallVerdict = 'allowed' | 'ForbiddenByFirewall' | 'ForbiddenByConnection';

export function decideFirewall(firewall: Firewall, clientAddress: string): FirewallVerdict {
  if (firewall.publicNetworkAccess === 'Disabled') return 'ForbiddenByConnection';
  if (firewall.defaultAction === 'Allow') return 'allowed';
  return isInside(firewall.ipRules, clientAddress) ? 'allowed' : 'ForbiddenByFirewall';
}

/** @param socketAddress of the connection; IPv4 in its IPv6 form is understood */
export function clientAddressOf(firewall: Firewall, socketAddress: string): string {
  if (firewall.clientAddress !== undefined) return firewall.clientAddress;
  const mapped = '::ffff:';
  return socketAddress.startsWith(mapped) ? socketAddress.slice(mapped.length) : socketAddress;
}

function isInside(ranges: readonly string[], address: string): boolean {
  const list = new BlockList();
  for (const text of ranges) {
    const range = rangeOf(text);
    if (range !== null) list.addSubnet(range.address, range.bits, range.family);
  }
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

function rangeOf(text: string): { address: string; bits: number; family: 'ipv4' | 'ipv6' } | null {
  const [, address = '', bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const version = isIP(address);
  if (version === 0) return null;
  const most = version === 6 ? 128 : 32;
  const wanted = bits === undefined ? most : Number(bits);
  if (wanted > most) return null;
  return { address, bits: wanted, family: version === 6 ? 'ipv6' : 'ipv4' };
}
