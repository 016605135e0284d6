// The API that the authorization server protects: /api/items?page=N, 401 unless the access token is good.

import { createHash, randomBytes } from 'node:crypto';

import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from 'jose';

const ITEMS_PER_PAGE = 10;
const PROOF_LIFETIME = 300; // seconds

export function createApi(settings, log, fingerprint) {
  const seenProofs = new Set(); // by jti: each is good once (RFC 9449, section 11.1)

  return async function api(provider, issuer, request, response) {
    const url = new URL(request.url, issuer);
    const body = await read(request);
    const [scheme = '', token = ''] = (request.headers.authorization ?? '').split(' ');
    const proof = {};
    const problem = await problemWith(provider, issuer, url, request, scheme, token, proof);
    const answerHeaders = {};
    if (proof.jti && !problem && settings.api_dpop_rotates) {
      // RFC 9449, section 8.2: the next request needs another nonce, which a success brings.
      settings.api_dpop_nonce = randomBytes(12).toString('base64url');
      answerHeaders['dpop-nonce'] = settings.api_dpop_nonce;
    }
    const headers = { ...request.headers };
    if (headers.authorization) headers.authorization = `${scheme} ${fingerprint(token)}`;
    if (headers.dpop) headers.dpop = 'a proof';
    log({ method: request.method, path: url.pathname, query: url.search, headers, proof, bytes: body.length, status: problem?.status ?? 200, error: problem?.error ?? null });
    if (problem) {
      send(response, problem.status, { error: problem.error }, problem.headers);
      return;
    }
    if (url.pathname === '/api/items') sendItems(settings, issuer, url, response, answerHeaders);
    else if (url.pathname === '/api/me') send(response, 200, { subject: 'someone' }, answerHeaders);
    else if (url.pathname === '/api/moved') send(response, 307, {}, { ...answerHeaders, location: `${issuer}/api/me` });
    else send(response, 404, { error: 'not_found' });
  };

  async function problemWith(provider, issuer, url, request, scheme, token, proof) {
    if (!token || !['bearer', 'dpop'].includes(scheme.toLowerCase())) {
      return { status: 401, error: 'no token', headers: { 'www-authenticate': 'Bearer realm="api"' } };
    }
    const invalid = (why) => ({
      status: 401,
      error: 'invalid_token',
      headers: { 'www-authenticate': `${scheme} realm="api", error="invalid_token", error_description="${why}"` },
    });
    const found = await provider.AccessToken.find(token) ?? await provider.ClientCredentials.find(token);
    // The provider's own tolerance for skewed clocks would let a token live longer than it says.
    if (!found || found.isExpired) return invalid('expired or revoked');
    if (settings.api_audience && found.aud !== settings.api_audience) return invalid('for another audience');
    if (found.jkt) return problemWithProof(found, issuer, url, request, scheme, token, invalid, proof);
    if (scheme.toLowerCase() === 'dpop') return invalid('not a DPoP token');
    return undefined;
  }

  async function problemWithProof(found, issuer, url, request, scheme, token, invalid, proof) {
    if (scheme.toLowerCase() !== 'dpop' || !request.headers.dpop) return invalid('a DPoP proof is needed');
    try {
      const { payload, protectedHeader } = await jwtVerify(request.headers.dpop, EmbeddedJWK, { typ: 'dpop+jwt' });
      const { jti, nonce, htm, htu } = payload;
      Object.assign(proof, { jti, nonce: nonce ?? null, htm, htu, jwk: protectedHeader.jwk });
      const hash = createHash('sha256').update(token).digest('base64url');
      const right = payload.htm === request.method
        && Math.abs(payload.iat - Date.now() / 1000) < PROOF_LIFETIME
        && typeof jti === 'string' && !seenProofs.has(jti)
        && protectedHeader.jwk.d === undefined
        && payload.htu === `${issuer}${url.pathname}`
        && payload.ath === hash
        && await calculateJwkThumbprint(protectedHeader.jwk) === found.jkt;
      if (!right) return { ...invalid('wrong proof'), error: 'invalid_dpop_proof' };
      seenProofs.add(jti);
      if (settings.api_dpop_nonce && payload.nonce !== settings.api_dpop_nonce) {
        return {
          status: 401,
          error: 'use_dpop_nonce',
          headers: { 'www-authenticate': 'DPoP error="use_dpop_nonce"', 'dpop-nonce': settings.api_dpop_nonce },
        };
      }
    } catch (error) {
      return { ...invalid('unreadable proof'), error: 'invalid_dpop_proof' };
    }
    return undefined;
  }
}

function sendItems(settings, issuer, url, response, headers) {
  const page = Number(url.searchParams.get('page') ?? 1);
  const next = page < settings.pages ? `${issuer}/api/items?page=${page + 1}` : null;
  const items = page > settings.pages ? [] : Array.from({ length: ITEMS_PER_PAGE }, (_, n) => (
    { id: (page - 1) * ITEMS_PER_PAGE + n, name: `item ${n} of page ${page}` }
  ));
  send(response, 200, { items, page, pages: settings.pages, next }, next ? { ...headers, link: `<${next}>; rel="next"` } : headers);
}

export function send(response, status, body, headers = {}) {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers });
  response.end(text);
}

export async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}
