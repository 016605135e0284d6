// Where oidc-provider keeps its tokens here: plain maps. Its own in-memory adapter forgets the oldest entries
// beyond a thousand, which a long soak would take for a lost grant.

const GRANTABLE = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken', 'DeviceCode']);

export function createAdapter() {
  const models = new Map(); // model -> id -> { payload, expiresAt }
  const byGrant = new Map(); // grant id -> set of "model id"
  const byUid = new Map();
  const byUserCode = new Map();

  const of = (model) => {
    if (!models.has(model)) models.set(model, new Map());
    return models.get(model);
  };

  return class Adapter {
    constructor(model) {
      this.model = model;
      this.entries = of(model);
    }

    async upsert(id, payload, expiresIn) {
      this.entries.set(id, { payload, expiresAt: expiresIn ? Date.now() + expiresIn * 1000 : Infinity });
      if (payload.uid) byUid.set(payload.uid, id);
      if (payload.userCode) byUserCode.set(payload.userCode, id);
      if (payload.grantId && GRANTABLE.has(this.model)) {
        if (!byGrant.has(payload.grantId)) byGrant.set(payload.grantId, new Set());
        byGrant.get(payload.grantId).add(`${this.model} ${id}`);
      }
    }

    async find(id) {
      const entry = this.entries.get(id);
      // A token that is past its time stays for the provider to call expired.
      return entry?.payload;
    }

    async findByUid(uid) { return this.find(byUid.get(uid)); }

    async findByUserCode(userCode) { return this.find(byUserCode.get(userCode)); }

    async consume(id) {
      const entry = this.entries.get(id);
      if (entry) entry.payload.consumed = Math.floor(Date.now() / 1000);
    }

    async destroy(id) { this.entries.delete(id); }

    async revokeByGrantId(grantId) {
      for (const key of byGrant.get(grantId) ?? []) {
        const [model, id] = key.split(' ');
        of(model).delete(id);
      }
      byGrant.delete(grantId);
    }
  };
}
