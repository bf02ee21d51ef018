// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The kernel's ciphers for the engine's keys.
 *
 * A key comes under the locks of its vNIC's lanes, where no transform can be made. So the work item makes them, and until then
 * (and where the kernel has none) the engine computes by itself.
 *
 * Of each key there are two transforms: a fast one, which may use vector registers and therefore only serves where those
 * may be used, and one that always serves. The fast one's implementation is formally asynchronous (it would hand the
 * packet to a thread if it may not use vector registers), so it is asked only where it will not do that; it has to prove
 * so with a trial packet, since a device for ciphers could have the same name.
 *
 * Lanes use the same transforms at the same time: those are only read. What is written (requests, IV, authenticated data) each
 * lane has for itself.
 *
 * Scatterlists must not point to the stack, which may be of vmalloc: IV and authenticated data lie in `struct cvsw_scratch`,
 * the packet in an skb.
 */
#include <asm/simd.h>
#include <crypto/aead.h>
#include <crypto/hash.h>
#include <crypto/internal/simd.h>
#include <crypto/skcipher.h>
#include <linux/moduleparam.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "cvsw.h"

#define CVSW_GCM "gcm(aes)"
#define CVSW_CTR "ctr(aes)"
#define CVSW_MAC "hmac(sha256)"
#define CVSW_ICV 16
#define CVSW_TRIAL 32
#define CVSW_SELFTEST_BUFFER 256

/* For those who look for a fault: is it the kernel's ciphers? */
static bool cvsw_portable_only;
module_param_named(portable_only, cvsw_portable_only, bool, 0644);
MODULE_PARM_DESC(portable_only, "keys that come from now on work with the portable ciphers only, not with the kernel's");

/* What one lane computes with a key with. */
struct cvsw_request {
	struct aead_request *gcm[CVSW_WAYS];
	struct skcipher_request *ctr[CVSW_WAYS];
	struct shash_desc *mac;
};

/* The transforms of one key: either GCM's, or CTR's with or without a MAC. */
struct cvsw_key {
	struct list_head doomed;
	struct crypto_aead *gcm[CVSW_WAYS];
	struct crypto_skcipher *ctr[CVSW_WAYS];
	struct crypto_shash *mac;
	u32 lane_count;
	struct cvsw_request requests[];
};

struct cvsw_slot {
	struct cvsw_key *key;
	/* Tells keys that came one after the other from each other. */
	u32 generation;
	bool wanted;
};

/* Changes with all lanes locked, and is read with the lock of any. */
struct cvsw_keys {
	struct cvsw_slot slots[CVSW_SAS];
	/* Keys whose transforms are to be freed by the work item. */
	struct list_head doomed;
	u32 lane_count;
	/* In the self-test: the only way to be used, from 1. */
	u32 forced;
};

struct cvsw_keys *cvsw_keys_alloc(u32 lane_count)
{
	struct cvsw_keys *keys = kzalloc(sizeof(*keys), GFP_KERNEL);

	if (keys) {
		INIT_LIST_HEAD(&keys->doomed);
		keys->lane_count = lane_count;
	}
	return keys;
}

static void cvsw_request_free(const struct cvsw_request *request)
{
	int way;

	for (way = 0; way < CVSW_WAYS; way++) {
		aead_request_free(request->gcm[way]);
		skcipher_request_free(request->ctr[way]);
	}
	kfree_sensitive(request->mac);
}

static void cvsw_key_free(struct cvsw_key *key)
{
	u32 lane;
	int way;

	for (lane = 0; lane < key->lane_count; lane++)
		cvsw_request_free(&key->requests[lane]);
	for (way = 0; way < CVSW_WAYS; way++) {
		crypto_free_aead(key->gcm[way]);
		crypto_free_skcipher(key->ctr[way]);
	}
	crypto_free_shash(key->mac);
	kfree(key);
}

static void cvsw_free_list(struct list_head *doomed)
{
	struct cvsw_key *key, *next;

	list_for_each_entry_safe(key, next, doomed, doomed)
		cvsw_key_free(key);
}

void cvsw_keys_free(struct cvsw_keys *keys)
{
	u32 slot;

	if (!keys)
		return;
	for (slot = 0; slot < CVSW_SAS; slot++)
		cvsw_keys_retire(keys, slot);
	cvsw_free_list(&keys->doomed);
	kfree_sensitive(keys);
}

/* Making transforms */

/* Seals nothing much with a key of zeros; whether it was done when the call returned. */
static bool cvsw_gcm_is_synchronous(struct crypto_aead *tfm)
{
	struct aead_request *request = aead_request_alloc(tfm, GFP_KERNEL);
	u8 *buffer = kzalloc(2 * CVSW_TRIAL, GFP_KERNEL);
	DECLARE_CRYPTO_WAIT(wait);
	struct scatterlist sg;
	int err = -ENOMEM;

	if (request && buffer)
		err = crypto_aead_setkey(tfm, buffer, 16);
	if (!err) {
		sg_init_one(&sg, buffer, CVSW_TRIAL);
		aead_request_set_callback(request, CRYPTO_TFM_REQ_MAY_BACKLOG, crypto_req_done, &wait);
		aead_request_set_ad(request, 0);
		aead_request_set_crypt(request, &sg, &sg, CVSW_TRIAL - CVSW_ICV, buffer + CVSW_TRIAL);
		err = crypto_aead_encrypt(request);
		if (err)
			crypto_wait_req(err, &wait);
	}
	kfree(buffer);
	aead_request_free(request);
	return !err;
}

static bool cvsw_ctr_is_synchronous(struct crypto_skcipher *tfm)
{
	struct skcipher_request *request = skcipher_request_alloc(tfm, GFP_KERNEL);
	u8 *buffer = kzalloc(2 * CVSW_TRIAL, GFP_KERNEL);
	DECLARE_CRYPTO_WAIT(wait);
	struct scatterlist sg;
	int err = -ENOMEM;

	if (request && buffer)
		err = crypto_skcipher_setkey(tfm, buffer, 16);
	if (!err) {
		sg_init_one(&sg, buffer, CVSW_TRIAL);
		skcipher_request_set_callback(request, CRYPTO_TFM_REQ_MAY_BACKLOG, crypto_req_done, &wait);
		skcipher_request_set_crypt(request, &sg, &sg, CVSW_TRIAL, buffer + CVSW_TRIAL);
		err = crypto_skcipher_encrypt(request);
		if (err)
			crypto_wait_req(err, &wait);
	}
	kfree(buffer);
	skcipher_request_free(request);
	return !err;
}

/* NULL if this kernel has none that we can use. */
static struct crypto_aead *cvsw_gcm_make(int way, const struct cvsw_key_material *material)
{
	struct crypto_aead *tfm = crypto_alloc_aead(CVSW_GCM, 0, way == CVSW_GENERIC ? CRYPTO_ALG_ASYNC : 0);

	if (IS_ERR(tfm))
		return NULL;
	if (crypto_aead_setauthsize(tfm, CVSW_ICV) || !cvsw_gcm_is_synchronous(tfm) ||
	    crypto_aead_setkey(tfm, material->cipher_key, material->cipher_key_len)) {
		crypto_free_aead(tfm);
		return NULL;
	}
	return tfm;
}

static struct crypto_skcipher *cvsw_ctr_make(int way, const struct cvsw_key_material *material)
{
	struct crypto_skcipher *tfm = crypto_alloc_skcipher(CVSW_CTR, 0, way == CVSW_GENERIC ? CRYPTO_ALG_ASYNC : 0);

	if (IS_ERR(tfm))
		return NULL;
	if (!cvsw_ctr_is_synchronous(tfm) ||
	    crypto_skcipher_setkey(tfm, material->cipher_key, material->cipher_key_len)) {
		crypto_free_skcipher(tfm);
		return NULL;
	}
	return tfm;
}

static struct crypto_shash *cvsw_mac_make(const struct cvsw_key_material *material)
{
	struct crypto_shash *tfm = crypto_alloc_shash(CVSW_MAC, 0, 0);

	if (IS_ERR(tfm))
		return NULL;
	if (crypto_shash_setkey(tfm, material->mac_key, material->mac_key_len)) {
		crypto_free_shash(tfm);
		return NULL;
	}
	return tfm;
}

/* What one lane needs; false if memory is short. */
static bool cvsw_request_make(const struct cvsw_key *key, struct cvsw_request *request)
{
	int way;

	for (way = 0; way < CVSW_WAYS; way++) {
		if (key->gcm[way]) {
			request->gcm[way] = aead_request_alloc(key->gcm[way], GFP_KERNEL);
			if (!request->gcm[way])
				return false;
			aead_request_set_callback(request->gcm[way], 0, NULL, NULL);
		}
		if (key->ctr[way]) {
			request->ctr[way] = skcipher_request_alloc(key->ctr[way], GFP_KERNEL);
			if (!request->ctr[way])
				return false;
			skcipher_request_set_callback(request->ctr[way], 0, NULL, NULL);
		}
	}
	if (key->mac) {
		request->mac = kzalloc(sizeof(*request->mac) + crypto_shash_descsize(key->mac), GFP_KERNEL);
		if (!request->mac)
			return false;
		request->mac->tfm = key->mac;
	}
	return true;
}

/* NULL if this kernel lacks something: the engine then goes on by itself. */
static struct cvsw_key *cvsw_key_make(const struct cvsw_key_material *material, u32 lane_count)
{
	struct cvsw_key *key = kzalloc(struct_size(key, requests, lane_count), GFP_KERNEL);
	bool complete;
	u32 lane;
	int way;

	if (!key)
		return NULL;
	key->lane_count = lane_count;
	for (way = 0; way < CVSW_WAYS; way++) {
		if (material->gcm)
			key->gcm[way] = cvsw_gcm_make(way, material);
		else
			key->ctr[way] = cvsw_ctr_make(way, material);
	}
	complete = key->gcm[CVSW_GENERIC] || key->ctr[CVSW_GENERIC];
	if (material->mac_key_len) {
		key->mac = cvsw_mac_make(material);
		complete = complete && key->mac;
	}
	for (lane = 0; lane < lane_count && complete; lane++)
		complete = cvsw_request_make(key, &key->requests[lane]);
	if (complete)
		return key;
	pr_notice_once(CVSW_NAME ": this kernel has no %s: computed without it, slowly\n",
		       material->gcm ? CVSW_GCM : CVSW_CTR " or " CVSW_MAC);
	cvsw_key_free(key);
	return NULL;
}

void cvsw_keys_want(struct cvsw_keys *keys, u32 slot)
{
	keys->slots[slot].generation++;
	WRITE_ONCE(keys->slots[slot].wanted, true);
}

void cvsw_keys_retire(struct cvsw_keys *keys, u32 slot)
{
	struct cvsw_slot *place = &keys->slots[slot];

	place->generation++;
	WRITE_ONCE(place->wanted, false);
	if (place->key)
		list_add(&place->key->doomed, &keys->doomed);
	place->key = NULL;
}

/* Makes the transforms of the key in one slot, without the lock while it sleeps. */
static void cvsw_keys_make(struct cvsw *vnic, u32 slot)
{
	struct cvsw_slot *place = &vnic->keys->slots[slot];
	struct cvsw_key_material material = {};
	struct cvsw_key *key = NULL;
	u32 generation;
	bool there;

	spin_lock_bh(&vnic->lanes[0]->lock);
	generation = place->generation;
	place->wanted = false;
	there = cvsw_engine_key(vnic->lanes[0]->engine, slot, &material);
	spin_unlock_bh(&vnic->lanes[0]->lock);
	if (there && !READ_ONCE(cvsw_portable_only))
		key = cvsw_key_make(&material, vnic->lane_count);
	memzero_explicit(&material, sizeof(material));
	if (!key)
		return;
	cvsw_lock_lanes(vnic);
	if (place->generation == generation)
		swap(place->key, key);
	cvsw_unlock_lanes(vnic);
	if (key)
		cvsw_key_free(key);
}

/* In the work item: makes the transforms of new keys, and frees those of old ones. */
void cvsw_keys_work(struct cvsw *vnic)
{
	LIST_HEAD(doomed);
	u32 slot;

	for (slot = 0; slot < CVSW_SAS; slot++)
		if (READ_ONCE(vnic->keys->slots[slot].wanted))
			cvsw_keys_make(vnic, slot);
	spin_lock_bh(&vnic->lanes[0]->lock);
	list_splice_init(&vnic->keys->doomed, &doomed);
	spin_unlock_bh(&vnic->lanes[0]->lock);
	cvsw_free_list(&doomed);
}

/* Using them */

static int cvsw_gcm(struct cvsw_scratch *scratch, struct aead_request *request, bool open,
		    const struct cvsw_packet *packet, u8 *data, u32 len)
{
	struct scatterlist sg[2];

	memcpy(scratch->iv, packet->counter_block, sizeof(scratch->iv));
	memcpy(scratch->aad, packet->aad, sizeof(scratch->aad));
	sg_init_table(sg, ARRAY_SIZE(sg));
	sg_set_buf(&sg[0], scratch->aad, packet->aad_len);
	sg_set_buf(&sg[1], data, len);
	aead_request_set_ad(request, packet->aad_len);
	aead_request_set_crypt(request, sg, sg, open ? len : len - CVSW_ICV, scratch->iv);
	return open ? crypto_aead_decrypt(request) : crypto_aead_encrypt(request);
}

static int cvsw_mac(struct cvsw_scratch *scratch, struct shash_desc *mac, const struct cvsw_packet *packet,
		    const u8 *data, u32 len)
{
	int err = crypto_shash_init(mac);

	if (!err)
		err = crypto_shash_update(mac, packet->mac_prefix, sizeof(packet->mac_prefix));
	if (!err)
		err = crypto_shash_update(mac, data, len);
	return err ? err : crypto_shash_finup(mac, packet->mac_suffix, packet->mac_suffix_len, scratch->icv);
}

static int cvsw_ctr(struct cvsw_scratch *scratch, struct shash_desc *mac, struct skcipher_request *request, bool open,
		    const struct cvsw_packet *packet, u8 *data, u32 len)
{
	u32 text = len - packet->icv_len;
	struct scatterlist sg;
	int err = 0;

	if (open && mac) {
		err = cvsw_mac(scratch, mac, packet, data, text);
		if (!err && crypto_memneq(scratch->icv, data + text, CVSW_ICV))
			err = -EBADMSG;
	}
	if (!err && text) {
		memcpy(scratch->iv, packet->counter_block, sizeof(scratch->iv));
		sg_init_one(&sg, data, text);
		skcipher_request_set_crypt(request, &sg, &sg, text, scratch->iv);
		/* In counter mode both ways are the same. */
		err = crypto_skcipher_encrypt(request);
	}
	if (!err && !open && mac) {
		err = cvsw_mac(scratch, mac, packet, data, text);
		memcpy(data + text, scratch->icv, CVSW_ICV);
	}
	return err;
}

/* Called by the engine, with bottom halves off and the lane's lock held. */
int cvsw_keys_crypt(struct cvsw_scratch *scratch, u32 slot, u32 open, const struct cvsw_packet *packet, u8 *data,
		    u32 len)
{
	const struct cvsw_keys *keys = scratch->keys;
	struct cvsw_key *key = keys->slots[slot].key;
	int way = crypto_simd_usable() ? CVSW_FAST : CVSW_GENERIC;
	struct cvsw_request *request;

	if (!key)
		return -ENOKEY;
	request = &key->requests[scratch->lane];
	if (keys->forced)
		way = keys->forced - 1;
	else if (!request->gcm[way] && !request->ctr[way])
		way = CVSW_GENERIC;
	if (way >= CVSW_WAYS || (!request->gcm[way] && !request->ctr[way]))
		return -ENOKEY;
	scratch->packets[way]++;
	if (request->gcm[way])
		return cvsw_gcm(scratch, request->gcm[way], open, packet, data, len);
	return cvsw_ctr(scratch, request->mac, request->ctr[way], open, packet, data, len);
}

/* Self-test */

static void cvsw_name_ciphers(const struct cvsw_key *key)
{
	int way;

	for (way = 0; way < CVSW_WAYS; way++) {
		if (key->gcm[way])
			pr_info(CVSW_NAME ": %s\n",
				crypto_tfm_alg_driver_name(crypto_aead_tfm(key->gcm[way])));
		if (key->ctr[way] && key->mac)
			pr_info(CVSW_NAME ": %s with %s\n",
				crypto_tfm_alg_driver_name(crypto_skcipher_tfm(key->ctr[way])),
				crypto_tfm_alg_driver_name(crypto_shash_tfm(key->mac)));
	}
}

/* Called by the self-test: as the work item would, but at once. */
void cvsw_keys_prepare(struct cvsw_keys *keys, u32 way, const struct cvsw_ciphers *ciphers)
{
	struct cvsw_key_material material = {};
	u32 slot;

	keys->forced = way;
	for (slot = 0; slot < CVSW_SAS; slot++) {
		if (!keys->slots[slot].wanted || !cvsw_key_of(ciphers, slot, &material))
			continue;
		keys->slots[slot].wanted = false;
		keys->slots[slot].key = cvsw_key_make(&material, keys->lane_count);
	}
}

/* Computes published test vectors by every way. */
int cvsw_keys_selftest(void)
{
	static const char *const names[] = { "no", "the fast", "the generic", "the portable" };
	struct cvsw_scratch *scratch = kzalloc(sizeof(*scratch), GFP_KERNEL);
	u8 *buffer = kzalloc(CVSW_SELFTEST_BUFFER, GFP_KERNEL);
	struct cvsw_keys *keys = cvsw_keys_alloc(1);
	struct cvsw_shared *shared = cvsw_shared_alloc(keys);
	struct cvsw_key *key;
	int err = -ENOMEM;
	u32 fault;

	if (scratch && buffer && shared) {
		scratch->keys = keys;
		fault = cvsw_selftest(shared, scratch, buffer, CVSW_SELFTEST_BUFFER);
		err = fault ? -EBADMSG : 0;
		if (fault)
			pr_err(CVSW_NAME ": %s ciphers compute test vector %u wrongly: not loaded\n",
			       names[min_t(u32, fault >> 16, ARRAY_SIZE(names) - 1)], fault & 0xffff);
		else
			list_for_each_entry(key, &keys->doomed, doomed)
				if (list_is_first(&key->doomed, &keys->doomed) ||
				    list_is_last(&key->doomed, &keys->doomed))
					cvsw_name_ciphers(key);
	}
	cvsw_shared_free(shared);
	cvsw_keys_free(keys);
	kfree(buffer);
	kfree(scratch);
	return err;
}
