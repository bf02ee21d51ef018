// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What changes or shows a vNIC holds whole flows and keys on the stack, several kilobytes of it. Who wants that may be deep
 * in the kernel already: in the softirq of a frame that came through a tunnel, or in a system call. So it runs in a work
 * item: a kernel worker's stack of 16 KiB is all its own then. (Control frames wait for the vNIC's work item, control.c.)
 */
#include <linux/workqueue.h>
#include "cvsw.h"

struct cvsw_call {
	struct work_struct work;
	int (*run)(void *argument);
	void *argument;
	int result;
};

static void cvsw_run_call(struct work_struct *work)
{
	struct cvsw_call *call = container_of(work, struct cvsw_call, work);

	call->result = call->run(call->argument);
}

/* Runs a function on a worker and waits for it. */
int cvsw_on_worker(int (*run)(void *argument), void *argument)
{
	struct cvsw_call call = { .run = run, .argument = argument };

	INIT_WORK_ONSTACK(&call.work, cvsw_run_call);
	queue_work(system_unbound_wq, &call.work);
	flush_work(&call.work);
	destroy_work_on_stack(&call.work);
	return call.result;
}
