"""What runs any stage: plan, dispatch, supervise, worker, runner."""
