// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Steering: the program at XDP and those that hear of drops, books, the queues of CPUs. */
#include "engine/steer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "basic/cleanup.h"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpointer-arith" /* as programs for the kernel have it */
#include "bpf/lib/policy.h"
#include "bpf/lib/steer.h"
#pragma GCC diagnostic pop
#include "engine/chain.h"
#include "engine/internal.h"
#include "engine/policy.h"
#include "engine/shield.h"
#include "shared/forward.h"
#include "steer.skel.h"

#define PLACES      2
#define ONLINE_FILE "/sys/devices/system/cpu/online"

struct steer_book {
	struct policy_unit *units; /* mapped; NULL: nothing is steered */
	size_t count;
};

struct steering {
	struct steer_bpf *skeleton; /* NULL: there never was a sentence */
	struct steer_bpf *whole;    /* for generic XDP; NULL: none has had that */
	struct steer_book books[PLACES];
	struct steer_count *counts; /* room for what all CPUs have counted */
	struct steer_loss *losses;
	bool losses_known;
};

static struct steering *steering_of(const struct engine *engine)
{
	return engine_part_state(engine, &steer_part);
}

/* -- books -- */

static void book_close(struct steer_book *book)
{
	if (book->units)
		munmap(book->units, book->count * sizeof(*book->units));
	*book = (struct steer_book){};
}

static int book_map(int map, size_t count, struct steer_book *ret_book)
{
	void *units =
		mmap(NULL, count * sizeof(struct policy_unit), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	if (units == MAP_FAILED)
		return -errno;
	*ret_book = (struct steer_book){units, count};
	return 0;
}

static int books_fd(const struct steering *steering)
{
	return bpf_map__fd(steering->skeleton->maps.steer_books);
}

static int book_adopt(struct steering *steering, __u32 place)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), id;
	_cleanup_close_ int map = -1;

	if (bpf_map_lookup_elem(books_fd(steering), &place, &id) < 0)
		return 0;
	map = bpf_map_get_fd_by_id(id);
	if (map < 0 || bpf_obj_get_info_by_fd(map, &info, &length) < 0)
		return -errno;
	return book_map(map, info.max_entries, &steering->books[place]);
}

static int book_take(struct steering *steering, __u32 place)
{
	if (bpf_map_delete_elem(books_fd(steering), &place) < 0 && errno != ENOENT)
		return -errno;
	book_close(&steering->books[place]);
	return 0;
}

static int book_put(struct steering *steering, __u32 place, const struct policy_image *image)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct steer_book book = {};
	_cleanup_close_ int map = -1;
	int r;

	if (!image->count)
		return book_take(steering, place);
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "steer_book", sizeof(__u32), sizeof(struct policy_unit),
		(__u32)image->count, &options);
	if (map < 0)
		return map;
	r = book_map(map, image->count, &book);
	if (r < 0 || !book.units)
		return r;
	memcpy(book.units, image->units, image->count * sizeof(*image->units));
	if (bpf_map_update_elem(books_fd(steering), &place, &map, BPF_ANY) < 0) {
		r = -errno;
		book_close(&book);
		return r;
	}
	book_close(&steering->books[place]);
	steering->books[place] = book;
	return 0;
}

static __u32 place_now(struct engine *engine)
{
	struct policy_now now = {};

	return engine_policy_now(engine, &now) == 0 ? now.places >> STEER_PLACE & 1 : 0;
}

/* -- loading -- */

static bool program_known(struct bpf_program *program, const char *tracepoint)
{
	if (component_has_tracepoint(tracepoint))
		return true;
	bpf_program__set_autoload(program, false);
	return false;
}

static void skeleton_prepare(const struct engine *engine, struct steer_bpf *skeleton)
{
	skeleton->rodata->steer_seed = engine->meta.flow_seed[0];
	bpf_map__set_max_entries(skeleton->maps.steer_cpus, engine->view.cpus);
	bpf_map__set_max_entries(skeleton->maps.steer_losses, engine->view.cpus);
}

/* Losses are told by the map of the queues. */
static int queues_note(const struct steer_bpf *skeleton, __u32 kind)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(bpf_map__fd(skeleton->maps.steer_cpus), &info, &length) < 0 ||
		bpf_map_update_elem(bpf_map__fd(skeleton->maps.steer_cpus_id), &kind, &info.id, BPF_ANY) < 0)
		return -errno;
	return 0;
}

static int programs_load(struct engine *engine, struct steering *steering, struct error *error)
{
	struct steer_bpf *skeleton = steering->skeleton;
	struct bpf_program *const tracing[] = {
		skeleton->progs.steer_enqueue, skeleton->progs.steer_kthread, skeleton->progs.steer_refuse};
	static const char *const tracepoints[] = {
		"xdp_cpumap_enqueue", "xdp_cpumap_kthread", "xdp_redirect_err"};
	int r;

	steering->losses_known = true;
	for (size_t i = 0; i < sizeof(tracing) / sizeof(tracing[0]); i++)
		steering->losses_known &= program_known(tracing[i], tracepoints[i]);
	skeleton_prepare(engine, skeleton);
	r = component_load(engine, skeleton->obj, "steering", error);
	if (r < 0)
		return r;
	r = queues_note(skeleton, STEER_NATIVE);
	if (r < 0)
		return error_set(error, r, "cannot prepare the queues of CPUs: %s", strerror(-r));
	for (size_t i = 0; i < sizeof(tracing) / sizeof(tracing[0]) && r == 0; i++)
		if (bpf_program__autoload(tracing[i]))
			r = component_attach_trace(engine, tracing[i], error);
	for (__u32 place = 0; place < PLACES && r == 0; place++) {
		r = book_adopt(steering, place);
		if (r < 0)
			error_set(error, r, "cannot adopt what is steered: %s", strerror(-r));
	}
	return r;
}

static void steering_unload(struct steering *steering)
{
	for (int place = 0; place < PLACES; place++)
		book_close(&steering->books[place]);
	steer_bpf__destroy(steering->skeleton);
	steer_bpf__destroy(steering->whole);
	steering->skeleton = steering->whole = NULL;
}

bool engine_steer_used(const struct engine *engine)
{
	return steering_of(engine)->skeleton != NULL;
}

int engine_steer_prepare(struct engine *engine, struct error *error)
{
	struct steering *steering = steering_of(engine);
	int r;

	if (steering->skeleton)
		return 0;
	steering->skeleton = steer_bpf__open();
	if (!steering->skeleton)
		return error_set(error, -errno, "cannot open the programs that steer: %s", strerror(errno));
	r = programs_load(engine, steering, error);
	if (r < 0)
		steering_unload(steering);
	return r;
}

/* -- what books need -- */

typedef int lane_function(void *context, uint32_t rule, uint32_t cpu);

static int for_each_lane(const struct steer_book *book, lane_function *function, void *context)
{
	size_t count = 0;
	const struct steer *steers = steer_sentences(book->units, book->count, &count);
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		for (size_t j = 0; j < steers[i].count && r == 0; j++)
			r = function(context, steers[i].rule, steer_cpu(book->units, &steers[i], j));
	return r;
}

static int queue_make(const struct steer_bpf *skeleton, uint32_t cpu)
{
	const struct bpf_cpumap_val queue = {.qsize = STEER_QUEUE};
	int queues = skeleton ? bpf_map__fd(skeleton->maps.steer_cpus) : -1;
	struct bpf_cpumap_val there;

	if (!skeleton || bpf_map_lookup_elem(queues, &cpu, &there) == 0)
		return 0;
	return bpf_map_update_elem(queues, &cpu, &queue, BPF_ANY) < 0 ? -errno : 0;
}

static int lane_make(void *context, uint32_t rule, uint32_t cpu)
{
	const struct steer_key key = {rule, cpu};
	struct steering *steering = context;
	int r = queue_make(steering->skeleton, cpu);

	if (r == 0)
		r = queue_make(steering->whole, cpu);
	if (r < 0)
		return r;
	r = bpf_map_update_elem(
		bpf_map__fd(steering->skeleton->maps.steer_counts), &key, steering->counts, BPF_NOEXIST);
	return r < 0 && errno != EEXIST ? -errno : 0;
}

/* The lanes of both books, with nothing counted where they are new. */
static int lanes_make(const struct engine *engine, struct steering *steering)
{
	int r = 0;

	memset(steering->counts, 0, engine->view.cpus * sizeof(*steering->counts));
	for (int place = 0; place < PLACES && r == 0; place++)
		r = for_each_lane(&steering->books[place], lane_make, steering);
	return r;
}

static int whole_load(struct engine *engine, struct steering *steering, struct error *error)
{
	struct steer_bpf *skeleton = steer_bpf__open();
	int r;

	if (!skeleton)
		return error_set(error, -errno, "cannot open the programs that steer: %s", strerror(errno));
	skeleton_prepare(engine, skeleton);
	bpf_program__set_autoload(skeleton->progs.steer_enqueue, false);
	bpf_program__set_autoload(skeleton->progs.steer_kthread, false);
	bpf_program__set_autoload(skeleton->progs.steer_refuse, false);
	r = component_load_whole(engine, skeleton->obj, "steering", error);
	if (r < 0) {
		steer_bpf__destroy(skeleton);
		return r;
	}
	steering->whole = skeleton;
	r = queues_note(skeleton, STEER_GENERIC);
	if (r == 0)
		r = lanes_make(engine, steering);
	return r < 0 ? error_set(error, r, "cannot prepare the queues of CPUs: %s", strerror(-r)) : 0;
}

/* The programs go to their places; that for generic XDP where that is in use. */
static int programs_put(struct engine *engine, struct steering *steering, struct error *error)
{
	int r = 0;

	if (steering->skeleton)
		r = engine_chain_put(
			engine, CHAIN_STEER, bpf_program__fd(steering->skeleton->progs.steer), error);
	if (r == 0 && engine_shield_is_whole(engine) && !steering->whole)
		r = whole_load(engine, steering, error);
	if (r < 0 || !steering->whole)
		return r;
	return engine_chain_put_whole(
		engine, CHAIN_STEER, bpf_program__fd(steering->whole->progs.steer), error);
}

int engine_steer_renew(struct engine *engine, struct error *error)
{
	struct steering *steering = steering_of(engine);

	if (!steering || !steering->skeleton || !engine_chain_has(engine, CHAIN_STEER))
		return 0;
	return programs_put(engine, steering, error);
}

int engine_steer_bring(struct engine *engine, const struct policy_image *image, struct error *error)
{
	struct steering *steering = steering_of(engine);
	__u32 place;
	int r = image->count ? engine_steer_prepare(engine, error) : 0;

	if (r < 0 || !steering->skeleton)
		return r;
	place = place_now(engine) ^ 1;
	r = book_put(steering, place, image);
	if (r == 0)
		r = lanes_make(engine, steering);
	if (r < 0)
		return error_set(error, r, "cannot bring what is steered into the kernel: %s", strerror(-r));
	return image->count ? programs_put(engine, steering, error) : 0;
}

struct lane_search {
	struct steer_key key;
	bool any_rule;
};

static int lane_found(void *context, uint32_t rule, uint32_t cpu)
{
	const struct lane_search *search = context;

	return cpu == search->key.cpu && (search->any_rule || rule == search->key.rule);
}

static bool lane_is_used(const struct steering *steering, const bool kept[PLACES], struct lane_search search)
{
	for (int place = 0; place < PLACES; place++)
		if (kept[place] && for_each_lane(&steering->books[place], lane_found, &search))
			return true;
	return false;
}

static void lanes_sweep(const struct engine *engine, const struct steering *steering, const bool kept[PLACES])
{
	int counts = bpf_map__fd(steering->skeleton->maps.steer_counts);
	struct steer_key key, *previous = NULL, next;

	while (bpf_map_get_next_key(counts, previous, &next) == 0) {
		/* the one before is taken away only when the next is known */
		if (previous && !lane_is_used(steering, kept, (struct lane_search){.key = key}))
			bpf_map_delete_elem(counts, &key);
		key = next;
		previous = &key;
	}
	if (previous && !lane_is_used(steering, kept, (struct lane_search){.key = key}))
		bpf_map_delete_elem(counts, &key);
	for (__u32 cpu = 0; cpu < engine->view.cpus; cpu++) {
		if (lane_is_used(steering, kept, (struct lane_search){.key.cpu = cpu, .any_rule = true}))
			continue;
		bpf_map_delete_elem(bpf_map__fd(steering->skeleton->maps.steer_cpus), &cpu);
		if (steering->whole)
			bpf_map_delete_elem(bpf_map__fd(steering->whole->maps.steer_cpus), &cpu);
	}
}

/* Whose packets the kept books ask about. */
static int interfaces_want(struct engine *engine, const struct steering *steering, const bool kept[PLACES])
{
	uint32_t indexes[PLACES * STEERS_MAX];
	size_t found = 0;

	for (int place = 0; place < PLACES; place++) {
		const struct steer_book *book = &steering->books[place];
		size_t count = 0;
		const struct steer *steers = steer_sentences(book->units, book->count, &count);

		for (size_t i = 0; i < count && kept[place] && found < PLACES * STEERS_MAX; i++)
			if (steers[i].ifindex)
				indexes[found++] = steers[i].ifindex;
	}
	return engine_chain_want(engine, CHAIN_STEER, indexes, found);
}

int engine_steer_settle(struct engine *engine, bool before, struct error *error)
{
	struct steering *steering = steering_of(engine);
	bool kept[PLACES] = {before, before};
	int r;

	if (!steering->skeleton)
		return 0;
	kept[place_now(engine)] = true;
	lanes_sweep(engine, steering, kept);
	r = interfaces_want(engine, steering, kept);
	if (r == 0 && !(kept[0] && steering->books[0].units) && !(kept[1] && steering->books[1].units))
		r = engine_chain_take(engine, CHAIN_STEER, error);
	return r < 0 ? error_set(error, r, "cannot settle what is steered: %s", strerror(-r)) : 0;
}

const struct policy_unit *engine_steer_book(const struct engine *engine, bool other, size_t *ret_count)
{
	const struct steering *steering = steering_of(engine);
	const struct steer_book *book;

	if (!steering->skeleton)
		return NULL;
	book = &steering->books[place_now((struct engine *)engine) ^ (other ? 1 : 0)];
	*ret_count = book->count;
	return book->units;
}

uint32_t engine_steer_rule(const struct engine *engine, const struct packet *packet,
	const struct policy_facts *facts, unsigned int *ret_cpu)
{
	struct policy_cursor cursor = {};
	size_t count = 0, units = 0;
	const struct policy_unit *book = engine_steer_book(engine, false, &units);
	const struct steer *steers = steer_sentences(book, units, &count), *steer;
	struct trie_memory memory = {book, units};
	uint32_t unit;

	if (!steers)
		return 0;
	policy_begin(&memory, &cursor, facts);
	unit = policy_next(&memory, &cursor, facts);
	if (!unit)
		return 0;
	steer = &steers[((const struct policy_rule *)(book + unit))->source];
	if (!steer->count || !(steer->flags & STEER_READY))
		return 0;
	*ret_cpu = steer_cpu(
		book, steer, steer_lane(steer_hash(packet, engine->meta.flow_seed[0]), steer->count));
	return steer->rule;
}

void engine_steer_follow(struct engine *engine, engine_steer_flags *flags, void *context)
{
	const struct steering *steering = steering_of(engine);

	for (int place = 0; place < PLACES; place++) {
		const struct steer_book *book = &steering->books[place];
		size_t count = 0;
		struct steer *steers = (struct steer *)steer_sentences(book->units, book->count, &count);

		for (size_t i = 0; i < count; i++)
			__atomic_store_n(
				&steers[i].flags, flags(context, steers[i].ifindex), __ATOMIC_RELEASE);
	}
}

/* -- CPUs -- */

int engine_steer_online(struct steer_cpus *ret_cpus)
{
	FILE *file = fopen(ONLINE_FILE, "re");
	struct steer_cpus cpus = {};
	unsigned int low, high;
	int next = ',', r = 0;

	if (!file)
		return -errno;
	while (next == ',' && fscanf(file, "%u", &low) == 1) {
		high = low;
		next = fgetc(file);
		if (next == '-') {
			if (fscanf(file, "%u", &high) != 1)
				break;
			next = fgetc(file);
		}
		for (; low <= high && low < STEER_CPUS_MAX; low++)
			cpus.words[low / 64] |= 1ULL << low % 64;
	}
	if (next != '\n' && next != EOF)
		r = -EBADMSG;
	fclose(file);
	if (r == 0)
		*ret_cpus = cpus;
	return r;
}

/* -- what was counted -- */

void engine_steer_count(
	const struct engine *engine, uint32_t rule, unsigned int cpu, struct steer_count *ret_count)
{
	const struct steering *steering = steering_of(engine);
	const struct steer_key key = {rule, cpu};

	*ret_count = (struct steer_count){};
	if (!steering->skeleton || bpf_map_lookup_elem(bpf_map__fd(steering->skeleton->maps.steer_counts),
					   &key, steering->counts) < 0)
		return;
	for (unsigned int i = 0; i < engine->view.cpus; i++) {
		ret_count->packets += steering->counts[i].packets;
		ret_count->bytes += steering->counts[i].bytes;
	}
}

void engine_steer_loss(const struct engine *engine, unsigned int cpu, struct steer_loss *ret_loss)
{
	const struct steering *steering = steering_of(engine);
	__u32 key = cpu;

	*ret_loss = (struct steer_loss){};
	if (!steering->skeleton || bpf_map_lookup_elem(bpf_map__fd(steering->skeleton->maps.steer_losses),
					   &key, steering->losses) < 0)
		return;
	for (unsigned int i = 0; i < engine->view.cpus; i++) {
		ret_loss->full += steering->losses[i].full;
		ret_loss->memory += steering->losses[i].memory;
		ret_loss->refused += steering->losses[i].refused;
		ret_loss->absent += steering->losses[i].absent;
	}
}

bool engine_steer_losses_known(const struct engine *engine)
{
	return steering_of(engine)->losses_known;
}

/* -- the part -- */

static void steer_close(void *state)
{
	struct steering *steering = state;

	steering_unload(steering);
	free(steering->counts);
	free(steering->losses);
	free(steering);
}

static int steer_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct steering *steering = calloc(1, sizeof(*steering));
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "steer_books"));
	bool kept[PLACES] = {true, true};
	int r;

	if (!steering)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = steering;
	steering->counts = calloc(engine->view.cpus, sizeof(*steering->counts));
	steering->losses = calloc(engine->view.cpus, sizeof(*steering->losses));
	if (!steering->counts || !steering->losses)
		return error_set(error, -ENOMEM, "out of memory");
	if (left < 0)
		return 0;
	r = engine_steer_prepare(engine, error);
	if (r < 0 || !engine_chain_has(engine, CHAIN_STEER))
		return r;
	r = interfaces_want(engine, steering, kept);
	return r < 0 ? error_set(error, r, "out of memory") : programs_put(engine, steering, error);
}

const struct engine_part steer_part = {"steer", steer_open, steer_close};
