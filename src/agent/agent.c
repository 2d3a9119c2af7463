// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Start, event loop, stop. */
#include "agent/agent.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "agent/internal.h"
#include "agent/owner/audit.h"
#include "agent/rule/rules.h"
#include "agent/shape/shapes.h"
#include "basic/cleanup.h"
#include "basic/clock.h"
#include "basic/log.h"

#define AGENT_NICE        (-5)
#define REFRESH_NS        100000000ULL   /* a table this old is fresh enough for a question */
#define ATTENTION_NS      10000000000ULL /* for so long after a question the next one is expected */
#define ATTENTIVE_SCAN_NS 1000000000ULL
#define MEMORY_LARGE      (4 << 20)

uint64_t agent_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static int read_config(const struct agent *agent, struct config *ret_config, struct error *error)
{
	if (agent->options->config_file)
		return config_read_file(agent->options->config_file, ret_config, error);
	return config_init(ret_config);
}

/* -- run directory -- */

/* Makes the run directory where it is missing (its parent has to be there) and finds its full name. */
static int open_run_dir(struct agent *agent, struct error *error)
{
	const char *path = agent->options->run_dir;

	if (mkdir(path, 0755) == 0)
		agent->made_run_dir = true;
	else if (errno != EEXIST)
		return error_set(error, -errno, "cannot make run directory %s: %s", path, strerror(errno));
	if (!realpath(path, agent->run_dir))
		return error_set(error, -errno, "cannot use run directory %s: %s", path, strerror(errno));
	if (strlen(agent->run_dir) > 90) {
		error_set(error, -ENAMETOOLONG, "the name of run directory %s is too long for a socket in it",
			agent->run_dir);
		return error_want(error, "at most 90 bytes");
	}
	snprintf(agent->socket_path, sizeof(agent->socket_path), "%.90s/weir.sock", agent->run_dir);
	return 0;
}

/* One agent per run directory.  A record lock ends with the process, and no child inherits it. */
static int take_lock(struct agent *agent, struct error *error)
{
	char path[PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/lock", agent->run_dir);
	for (;;) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		struct stat held, named;
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

		if (fd < 0)
			return error_set(error, -errno, "cannot open %s: %s", path, strerror(errno));
		if (fcntl(fd, F_SETLK, &lock) < 0) {
			int r = -errno;

			if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
				error_set(error, -EBUSY, "another agent (pid %d) runs in %s", lock.l_pid,
					agent->run_dir);
			else
				error_set(error, r, "cannot lock %s: %s", path, strerror(-r));
			close(fd);
			return error_want(error, "another --run-dir, or 'weir down' first");
		}
		/* an agent that just ended may have removed the file we hold */
		if (fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino) {
			agent->lock = fd;
			return 0;
		}
		close(fd);
	}
}

static void leave_run_dir(struct agent *agent, bool remove)
{
	char path[PATH_MAX + 8];

	if (agent->lock < 0)
		return;
	snprintf(path, sizeof(path), "%s/lock", agent->run_dir);
	unlink(path);
	if (remove)
		rmdir(agent->run_dir); /* stays if somebody keeps something in it */
	close(TAKE_FD(agent->lock));
}

/* -- privileges -- */

static int drop_privileges(struct error *error)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(error, -errno, "cannot give up privileges: %s", strerror(errno));
	capng_clear(CAPNG_SELECT_BOTH);
	/* maps and programs; attaching; captures at packet sockets; reading what programs measure */
	if (capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW,
		    CAP_PERFMON, -1) < 0 ||
		capng_apply(CAPNG_SELECT_BOTH) < 0)
		return error_set(error, -EPERM, "cannot give up privileges");
	return 0;
}

/* Where the host is busy, records wait for us in rings of limited size: we want to be early, not long. */
static void raise_priority(void)
{
	if (setpriority(PRIO_PROCESS, 0, AGENT_NICE) < 0)
		log_debug("cannot raise the agent's priority: %s", strerror(errno));
}

/* -- events -- */

static void schedule_scan(struct agent *agent)
{
	uint64_t wait_ns = agent->config.scan_ns, now_ns = agent_now_ns();
	struct timeval wait;

	/* somebody watches: give them fresh rates */
	if (agent->asked_ns && now_ns - agent->asked_ns < ATTENTION_NS && wait_ns > ATTENTIVE_SCAN_NS)
		wait_ns = ATTENTIVE_SCAN_NS;
	wait = (struct timeval){(time_t)(wait_ns / 1000000000), (suseconds_t)(wait_ns % 1000000000 / 1000)};
	event_add(agent->scan_timer, &wait);
}

static void agent_collect(struct agent *agent)
{
	collect_all(agent->collector);
	modules_tick(agent, agent_now_ns());
}

static void on_scan(evutil_socket_t fd, short what, void *context)
{
	struct agent *agent = context;

	(void)fd;
	(void)what;
	agent_collect(agent);
	schedule_scan(agent);
}

static bool table_is_old(const struct agent *agent, uint64_t now_ns)
{
	return now_ns - collected_at(agent->collector) >= REFRESH_NS;
}

void agent_refresh_table(struct agent *agent)
{
	if (table_is_old(agent, agent_now_ns()))
		collect_all(agent->collector);
}

void agent_refresh(struct agent *agent)
{
	uint64_t now_ns = agent_now_ns();
	bool first = !agent->asked_ns || now_ns - agent->asked_ns >= ATTENTION_NS;

	agent->asked_ns = now_ns;
	if (table_is_old(agent, now_ns))
		agent_collect(agent);
	if (first)
		schedule_scan(agent);
}

static void on_ring(evutil_socket_t fd, short what, void *context)
{
	struct agent *agent = context;
	const struct engine_view *view = engine_view(agent->engine);

	(void)what;
	for (unsigned int cpu = 0; cpu < view->cpus; cpu++)
		if (engine_ring_fd(agent->engine, cpu) == fd)
			collect_ring(agent->collector, cpu);
}

static void on_interfaces(evutil_socket_t fd, short what, void *context)
{
	struct agent *agent = context;

	(void)fd;
	(void)what;
	engine_interface_drain(agent->engine);
	watch_reconcile(agent);
	rules_interfaces_changed(agent);
	shapes_interfaces_changed(agent);
}

void agent_stop(struct agent *agent, enum agent_end end)
{
	agent->end = end;
	event_base_loopbreak(agent->base);
}

static void on_signal(evutil_socket_t signal_number, short what, void *context)
{
	struct agent *agent = context;
	struct error error = {};

	(void)what;
	switch (signal_number) {
	case SIGINT:
		agent_stop(agent, AGENT_REMOVES);
		break;
	case SIGTERM:
		agent_stop(agent, AGENT_LEAVES);
		break;
	default:
		if (agent_reload(agent, &error) < 0) {
			log_error("the configuration stays as it was");
			error_print(&error, "weir: ", stderr);
		} else {
			audit_change(agent, NULL, "reload of %s, by SIGHUP", agent->options->config_file);
		}
	}
}

static struct table_limits limits_of(const struct config *config)
{
	return (struct table_limits){
		.flows = config->table_flows,
		.hosts = config->table_hosts,
		.owners = config->owners_table,
		.idle_ns = config->idle_ns,
		.closed_ns = config->closed_ns,
		.active_ns = config->active_ns,
	};
}

static struct engine_sizes sizes_of(const struct config *config)
{
	return (struct engine_sizes){
		.cache4_lines = config->cache4_lines,
		.cache6_lines = config->cache6_lines,
		.ring_bytes = config->ring_bytes,
		.owners = config->owners_table,
	};
}

/* Sizes are those of the maps in use; say so when the configuration has others. */
static void compare_sizes(const struct agent *agent)
{
	struct engine_sizes wanted = sizes_of(&agent->config);

	if (memcmp(&wanted, engine_sizes(agent->engine), sizeof(wanted)) != 0)
		log_warning("new sizes in flows.cache, flows.ring and owners.table take effect after 'weir "
			    "down' and a new "
			    "start");
}

int agent_reload(struct agent *agent, struct error *error)
{
	struct config config, before = agent->config;
	struct table_limits limits;
	int r;

	if (!agent->options->config_file) {
		error_set(error, -ENOENT, "there is no configuration file to read again");
		return error_want(error, "start with 'weir run --config FILE'");
	}
	r = read_config(agent, &config, error);
	if (r < 0)
		return r;
	agent->config = config;
	r = api_protect(agent, error);
	if (r == 0)
		r = api_listen_metrics(agent, error);
	if (r == 0)
		r = rules_configure(agent, error);
	if (r < 0) {
		/* nothing of a configuration that cannot be had as a whole */
		agent->config = before;
		api_protect(agent, NULL);
		api_listen_metrics(agent, NULL);
		config_free(&config);
		return r;
	}
	config_free(&before);
	log_set_level(agent->config.log_level);
	limits = limits_of(&agent->config);
	table_set_limits(agent->table, &limits);
	modules_reload(agent);
	compare_sizes(agent);
	watch_reconcile(agent);
	schedule_scan(agent);
	log_info("configuration read again");
	return 0;
}

/* -- start and stop -- */

static void log_event(int severity, const char *message)
{
	(void)severity;
	log_debug("%s", message);
}

static int add_event(
	struct agent *agent, evutil_socket_t fd, short what, event_callback_fn function, void *context)
{
	struct event **events = reallocarray(agent->events, agent->event_count + 1, sizeof(struct event *));
	struct event *event =
		events ? event_new(agent->base, fd, what | EV_PERSIST, function, context) : NULL;

	if (events)
		agent->events = events;
	if (!event)
		return -ENOMEM;
	agent->events[agent->event_count++] = event;
	return event_add(event, NULL) == 0 ? 0 : -EIO;
}

int agent_wait_for(struct agent *agent, int fd, event_callback_fn function, void *context)
{
	return add_event(agent, fd, EV_READ, function, context);
}

static int open_events(struct agent *agent, struct error *error)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	int r = 0;

	event_set_log_callback(log_event);
	agent->base = event_base_new();
	if (!agent->base)
		return error_set(error, -ENOMEM, "cannot make an event loop");
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]) && r == 0; i++)
		r = add_event(agent, signals[i], EV_SIGNAL, on_signal, agent);
	for (unsigned int cpu = 0; cpu < engine_view(agent->engine)->cpus && r == 0; cpu++)
		r = add_event(agent, engine_ring_fd(agent->engine, cpu), EV_READ, on_ring, agent);
	if (r == 0)
		r = add_event(agent, engine_interface_fd(agent->engine), EV_READ, on_interfaces, agent);
	agent->scan_timer = evtimer_new(agent->base, on_scan, agent);
	if (r < 0 || !agent->scan_timer)
		return error_set(error, -ENOMEM, "out of memory");
	return 0;
}

static int start(struct agent *agent, struct error *error)
{
	struct table_limits limits;
	struct engine_sizes sizes;
	struct engine_watch watch;
	int r = read_config(agent, &agent->config, error);

	if (r < 0)
		return r;
	log_set_level(agent->config.log_level);
	r = open_run_dir(agent, error);
	if (r == 0)
		r = take_lock(agent, error);
	if (r < 0)
		return r;
	sizes = sizes_of(&agent->config);
	watch = (struct engine_watch){
		.owners = agent->config.owners_enabled,
		.drops = agent->config.drops_enabled,
		.sockets = agent->config.owners_enabled && agent->config.sockets_enabled,
		.names = agent->config.names_on,
	};
	r = engine_open(agent->run_dir, &sizes, &watch, &agent->engine, error);
	if (r < 0)
		return r;
	if (engine_adopted(agent->engine)) {
		log_info("adopted the datapath in %s", engine_pins(agent->engine));
		compare_sizes(agent);
	}
	limits = limits_of(&agent->config);
	r = table_open(agent->engine, &limits, &agent->table, error);
	if (r == 0)
		r = collector_open(agent->engine, agent->table, &agent->collector);
	if (r == 0)
		r = open_events(agent, error);
	if (r == 0)
		r = modules_open(agent, error);
	if (r == 0)
		r = api_open(agent, error);
	if (r == 0)
		r = api_listen_metrics(agent, error);
	if (r < 0)
		return r;
	watch_reconcile(agent);
	agent_collect(agent);
	raise_priority();
	return drop_privileges(error);
}

/* The socket goes last: a client that waits for it to be gone knows that everything is. */
static void stop(struct agent *agent, struct error *error)
{
	int r = 0;

	watch_free(agent);
	modules_close(agent);
	collector_close(agent->collector);
	table_close(agent->table);
	for (size_t i = 0; i < agent->event_count; i++)
		event_free(agent->events[i]);
	free(agent->events);
	if (agent->scan_timer)
		event_free(agent->scan_timer);
	if (agent->engine && agent->end == AGENT_REMOVES)
		r = engine_remove(agent->engine, error);
	else
		engine_close(agent->engine);
	api_close(agent);
	if (agent->base)
		event_base_free(agent->base);
	leave_run_dir(agent, agent->end == AGENT_REMOVES && r == 0);
	config_free(&agent->config);
}

static int agent_run(struct agent *agent, struct error *error)
{
	int r;

	agent->started_ns = agent_now_ns();
	r = start(agent, error);
	if (r < 0) {
		/* what this start made goes again; what another left stays */
		if (agent->engine && !engine_adopted(agent->engine))
			agent->end = AGENT_REMOVES;
		stop(agent, NULL);
		if (agent->made_run_dir)
			rmdir(agent->options->run_dir);
		return r;
	}
	schedule_scan(agent);
	printf("weir: ready\n");
	fflush(stdout);
	sd_notify(0, "READY=1");
	event_base_dispatch(agent->base);
	sd_notify(0, "STOPPING=1");
	stop(agent, error);
	return error->code;
}

/* What is large is mapped for itself: it grows without a copy, and is given back when it is freed.  By itself
 * malloc does so only until something large has been freed for the first time. */
static void set_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, MEMORY_LARGE);
	mallopt(M_TRIM_THRESHOLD, 2 * MEMORY_LARGE);
}

int agent_main(const struct agent_options *options)
{
	struct agent agent = {.options = options, .lock = -1};
	struct error error = {};

	signal(SIGPIPE, SIG_IGN);
	set_memory();
	if (agent_run(&agent, &error) < 0) {
		error_print(&error, "weir: ", stderr);
		return 1;
	}
	return 0;
}

int agent_down(const char *run_dir, struct error *error)
{
	struct agent_options options = {.run_dir = run_dir};
	struct agent agent = {.options = &options, .lock = -1};
	bool found;
	/* somebody may have deleted the directory, but what is pinned elsewhere by its name is there */
	int r = open_run_dir(&agent, error);

	if (r == 0)
		r = take_lock(&agent, error);
	if (r < 0)
		return r;
	r = engine_remove_left(agent.run_dir, &found, error);
	unlink(agent.socket_path);
	leave_run_dir(&agent, r == 0);
	if (r == 0 && !found)
		return error_set(error, -ENOENT, "nothing of weir is in %s", run_dir);
	return r;
}
