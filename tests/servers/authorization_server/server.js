// oidc-provider, set up as strictly as it goes: every refresh rotates, and a refresh token that is presented a
// second time takes its whole grant with it. `node server.js SETTINGS.json READY.json`
//
// Beside the provider: the protected API (api.js), and /_rig/ for the test that runs this server.

import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

import Provider, { errors } from 'oidc-provider';

import { createApi, read, send } from './api.js';
import { createAdapter } from './storage.js';

const [settingsFile, readyFile] = process.argv.slice(2);
const settings = JSON.parse(readFileSync(settingsFile, 'utf8'));

const tokenRequests = []; // what the token endpoint was asked, without secrets
const apiRequests = [];
const spent = new Set(); // fingerprints of the refresh tokens that were rotated away
const counts = { spends: 0, reuses: 0, grants_revoked: 0 };

const fingerprint = (token) => (token ? createHash('sha256').update(token).digest('hex').slice(0, 12) : null);

const keyPair = generateKeyPairSync('rsa', { modulusLength: 2048 });
const signingKey = { ...keyPair.privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'one' };

const peerCertificate = (ctx) => {
  const certificate = ctx.socket.getPeerX509Certificate?.();
  return certificate?.toString();
};

const configuration = {
  adapter: createAdapter(),
  clients: settings.clients,
  jwks: { keys: [signingKey] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  scopes: ['openid', 'offline_access', 'read', 'write'],
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  rotateRefreshToken: () => settings.rotate,
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  expiresWithSession: () => false,
  clientAuthMethods: settings.client_auth_methods,
  ttl: {
    AccessToken: () => settings.access_token_lifetime,
    ClientCredentials: () => settings.access_token_lifetime,
    RefreshToken: () => settings.refresh_token_lifetime,
    AuthorizationCode: 60,
    DeviceCode: () => settings.device_code_lifetime,
    IdToken: 3600,
    Interaction: 600,
    Session: 86400,
    Grant: 1209600,
  },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client, several) => several, // a token is for one, and nobody chooses for the client
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (settings.resources && !settings.resources.includes(resource)) throw new errors.InvalidTarget();
        return {
          scope: 'read write',
          audience: resource,
          accessTokenFormat: 'opaque',
          accessTokenTTL: settings.access_token_lifetime,
        };
      },
    },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => settings.dpop_nonce },
    mTLS: {
      enabled: Boolean(settings.tls?.require_client),
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      certificateBoundAccessTokens: true,
      getCertificate: peerCertificate,
      certificateAuthorized: (ctx) => ctx.socket.authorized === true,
      certificateSubjectMatches: (ctx, property, expected) => subjectMatches(ctx, property, expected),
    },
  },
};

function subjectMatches(ctx, property, expected) {
  const certificate = ctx.socket.getPeerX509Certificate?.();
  if (!certificate) return false;
  if (property === 'tls_client_auth_subject_dn') return certificate.subject.split('\n').join(',') === expected;
  if (property === 'tls_client_auth_san_email') return certificate.checkEmail(expected) !== undefined;
  if (property === 'tls_client_auth_san_dns') return certificate.checkHost(expected) !== undefined;
  return false;
}

// One token request at a time. oidc-provider reads a refresh token and marks it as used in two steps: two
// requests with the same token could both pass between them, and a reuse would go unseen.
let previous = Promise.resolve();

async function oneAtATime(ctx, next) {
  const isTokenRequest = ctx.path === '/token' && ctx.method === 'POST';
  if (!isTokenRequest) {
    await next();
    return;
  }
  const before = previous;
  let done;
  previous = new Promise((resolve) => { done = resolve; });
  await before;
  try {
    await next();
  } finally {
    note(ctx);
    done();
  }
}

function note(ctx) {
  const params = ctx.oidc?.params ?? {};
  const mark = fingerprint(params.refresh_token);
  const reuse = mark !== null && spent.has(mark);
  const succeeded = ctx.status === 200 && ctx.body?.access_token;
  const rotated = Boolean(succeeded && ctx.body.refresh_token && ctx.body.refresh_token !== params.refresh_token);
  if (params.grant_type === 'refresh_token' && succeeded) {
    counts.spends += 1;
    if (rotated) spent.add(mark);
  }
  if (reuse) counts.reuses += 1;
  tokenRequests.push({
    at: Date.now() / 1000,
    grant_type: params.grant_type ?? null,
    refresh_token: mark,
    rotated_to: rotated ? fingerprint(ctx.body.refresh_token) : null,
    client: ctx.oidc?.client?.clientId ?? null,
    auth_method: ctx.oidc?.client?.clientAuthMethod ?? null,
    dpop: Boolean(ctx.get('DPoP')),
    resource: params.resource ?? null,
    status: ctx.status,
    error: ctx.body?.error ?? null,
    error_description: ctx.body?.error_description ?? null,
    reuse,
  });
}

const api = createApi(settings, (entry) => { apiRequests.push(entry); }, fingerprint);

async function control(request, response) {
  const body = await read(request);
  if (request.url === '/_rig/settings') {
    Object.assign(settings, JSON.parse(body));
    send(response, 200, {});
  } else if (request.url === '/_rig/stats') {
    send(response, 200, { ...counts, token_requests: tokenRequests.length, api_requests: apiRequests.length });
  } else if (request.url === '/_rig/log') {
    send(response, 200, { token: tokenRequests, api: apiRequests });
  } else {
    send(response, 404, { error: 'not_found' });
  }
}

let provider;
let issuer;
let handle;

async function route(request, response) {
  try {
    if (request.url.startsWith('/_rig/')) await control(request, response);
    else if (request.url.startsWith('/api/')) await api(provider, issuer, request, response);
    else await handle(request, response);
  } catch (error) {
    console.error(error);
    if (!response.headersSent) send(response, 500, { error: 'server_error' });
  }
}

const server = settings.tls
  ? https.createServer({
    cert: readFileSync(settings.tls.file),
    key: readFileSync(settings.tls.file),
    ca: readFileSync(settings.tls.ca_file),
    requestCert: Boolean(settings.tls.require_client),
    rejectUnauthorized: false, // a browser that signs in has no certificate; the token endpoint asks for it
  }, route)
  : http.createServer(route);

server.keepAliveTimeout = 60000;
server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => {
  const { port } = server.address();
  issuer = `${settings.tls ? 'https' : 'http'}://127.0.0.1:${port}`;
  provider = new Provider(issuer, configuration);
  provider.use(oneAtATime);
  provider.on('server_error', (ctx, error) => { console.error(error); });
  provider.on('grant.revoked', () => { counts.grants_revoked += 1; });
  handle = provider.callback();
  writeFileSync(`${readyFile}.tmp`, JSON.stringify({ port, url: issuer }));
  renameSync(`${readyFile}.tmp`, readyFile);
});
