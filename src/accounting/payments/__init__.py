"""Links between invoices and cost payments, and the guard against spending one twice."""
