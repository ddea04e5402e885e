/*
 * The load of tests/bench/engine.py on libiscsi: `depth` commands in flight on one session until the time is up.
 *
 *   libiscsi_load PORTAL TARGET LUN SIZE DEPTH SECONDS read|write sequential|random none|header|data|both
 *
 * Prints how many commands were done, in how many seconds, for how many microseconds of our processor time. libiscsi gets
 * the buffer with the command, which spares it an allocation and is how QEMU uses it; nothing is reconnected.
 * Built on demand by tests/bench/build.py; DATA_DIGEST is defined where the library has data digests (after 1.20).
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

static struct {
    struct iscsi_context *iscsi;
    int lun, writes, random, in_flight;
    uint32_t size;
    uint64_t slots, next, count;
    double until;
    struct scsi_iovec vector;
} load;

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void submit(void);

static void done(struct iscsi_context *iscsi, int status, void *data, void *unused)
{
    (void)unused;
    if (status != SCSI_STATUS_GOOD) {
        fprintf(stderr, "a command failed: %s\n", iscsi_get_error(iscsi));
        exit(1);
    }
    scsi_free_scsi_task(data);
    load.in_flight--;
    load.count++;
    if (seconds(CLOCK_MONOTONIC) < load.until)
        submit();
}

static void submit(void)
{
    uint64_t slot = load.random ? (uint64_t)random() % load.slots : load.next++ % load.slots;
    uint64_t block = slot * (load.size / 512);
    struct scsi_task *task =
        load.writes ? iscsi_write16_iov_task(load.iscsi, load.lun, block, NULL, load.size, 512, 0, 0, 0, 0, 0, done, NULL,
                                             &load.vector, 1)
                    : iscsi_read16_iov_task(load.iscsi, load.lun, block, load.size, 512, 0, 0, 0, 0, 0, done, NULL,
                                            &load.vector, 1);
    if (!task) {
        fprintf(stderr, "no task: %s\n", iscsi_get_error(load.iscsi));
        exit(1);
    }
    load.in_flight++;
}

static int set_digests(struct iscsi_context *iscsi, const char *which)
{
    int header = !strcmp(which, "header") || !strcmp(which, "both");
    int data = !strcmp(which, "data") || !strcmp(which, "both");
    iscsi_set_header_digest(iscsi, header ? ISCSI_HEADER_DIGEST_CRC32C : ISCSI_HEADER_DIGEST_NONE);
#ifdef DATA_DIGEST
    iscsi_set_data_digest(iscsi, data ? ISCSI_DATA_DIGEST_CRC32C : ISCSI_DATA_DIGEST_NONE);
#else
    if (data) {
        fprintf(stderr, "this libiscsi has no data digests\n");
        return 2;
    }
#endif
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 10)
        return 2;
    load.iscsi = iscsi_create_context("iqn.2026-11.io.mooring.bench:client");
    load.lun = atoi(argv[3]);
    load.size = strtoul(argv[4], NULL, 10);
    load.slots = (256u << 20) / load.size;
    load.writes = !strcmp(argv[7], "write");
    load.random = !strcmp(argv[8], "random");
    load.vector.iov_base = calloc(1, load.size);
    load.vector.iov_len = load.size;
    iscsi_set_targetname(load.iscsi, argv[2]);
    iscsi_set_session_type(load.iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_noautoreconnect(load.iscsi, 1);
    if (set_digests(load.iscsi, argv[9]))
        return 2;
    if (iscsi_full_connect_sync(load.iscsi, argv[1], load.lun)) {
        fprintf(stderr, "no session: %s\n", iscsi_get_error(load.iscsi));
        return 1;
    }
    double began = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    load.until = began + atof(argv[6]);
    for (int depth = atoi(argv[5]); depth; depth--)
        submit();
    while (load.in_flight) {
        struct pollfd poller = {.fd = iscsi_get_fd(load.iscsi), .events = iscsi_which_events(load.iscsi)};
        if (poll(&poller, 1, 1000) < 0 || iscsi_service(load.iscsi, poller.revents)) {
            fprintf(stderr, "the connection is gone: %s\n", iscsi_get_error(load.iscsi));
            return 1;
        }
    }
    double end = seconds(CLOCK_MONOTONIC);
    printf("%llu %.6f %.0f\n", (unsigned long long)load.count, end - began,
           (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) * 1e6);
    iscsi_logout_sync(load.iscsi);
    iscsi_destroy_context(load.iscsi);
    return 0;
}
