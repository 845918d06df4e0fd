/* Reads of a mapped file that end well where the file has been cut short since, or its disk fails.
 *
 * The system then sends SIGBUS to the thread that reads, which by default ends the process. Here the thread goes back
 * to where it began instead:
 *
 *     Guard guard;
 *     if (sigsetjmp(guard.back, 0) == 0) {
 *         guard_begin(&guard, data, size);
 *         ... read; nothing may be taken that would have to be given back
 *     } else {
 *         ... it could not be read
 *     }
 *     guard_end();
 *
 * A SIGBUS of anything else goes to whoever was to have it before.
 */

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uintptr_t start, end; /* addresses of what is read */
    sigjmp_buf back;
} Guard;

static _Thread_local Guard *volatile guard_of_thread;
static struct sigaction sigbus_before;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    Guard *const guard = guard_of_thread;
    const uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    if (guard != NULL && info->si_code > 0 && at >= guard->start && at < guard->end)
        siglongjmp(guard->back, 1);
    /* Theirs: what faulted does so again when we return, and what was sent is sent again. Should they hand it back to
     * us, as faulthandler does when it has told of it, the system has it. */
    const struct sigaction theirs = sigbus_before;
    sigbus_before.sa_handler = SIG_DFL;
    sigbus_before.sa_flags = 0;
    sigaction(number, &theirs, NULL);
    if (info->si_code <= 0)
        raise(number);
}

static void guard_begin(Guard *guard, const void *data, size_t size)
{
    struct sigaction ours, before;
    ours.sa_sigaction = on_sigbus;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    /* Every time, since others may have put themselves in our place meanwhile; it costs a tenth of a microsecond. */
    if (sigaction(SIGBUS, &ours, &before) == 0 && before.sa_sigaction != on_sigbus)
        sigbus_before = before;
    guard->start = (uintptr_t)data;
    guard->end = guard->start + size;
    guard_of_thread = guard;
    atomic_signal_fence(memory_order_seq_cst);
}

static void guard_end(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    guard_of_thread = NULL;
}
