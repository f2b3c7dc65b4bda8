import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, jwtVerify, SignJWT } from 'jose';
import { createTokenVerifier } from '../src/core/auth/tokens.ts';
import { type Bench, inTurn } from './bench.ts';

const issuer = 'https://issuer.example';
const audience = 'api://keyturn';

/** A token seen before against a full check of its signature. */
export const bench: Bench = {
  name: 'repeated token check ÷ full RS256 check',
  goal: 0.2,
  better: 'lower',
  async measure() {
    const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
    const jwk = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'RS256', use: 'sig' };
    const server = createServer((_, response) => {
      response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: [jwk] }));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const token = await new SignJWT({ roles: ['Keyturn.Rotations.Read'] })
      .setProtectedHeader({ alg: 'RS256', kid: 'k' })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject('s')
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey);
    const options = { issuers: [issuer], audience: [audience] };
    const tokens = createTokenVerifier({ ...options, jwksUri: `http://127.0.0.1:${port}/` });
    try {
      return await inTurn(
        () => repeat(() => tokens.verify(`Bearer ${token}`)),
        () => repeat(() => jwtVerify(token, publicKey, { issuer, audience })),
        7,
      );
    } finally {
      server.closeAllConnections();
      server.close();
    }
  },
};

async function repeat(run: () => Promise<unknown>): Promise<void> {
  for (let index = 0; index < 500; index++) await run();
}
