"""Who runs a study: plan, searcher, scheduler, controller, tracking, report."""
