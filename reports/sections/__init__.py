"""One file per section of a report: a Study goes in, Sections come out.

card, question           the decision, and what kind of question it answers; next_sweep
gate                     may it be trusted: gate_check, gate_budget, gate_edges, gate_labelfree
design                   roles, arms, what they cost
paper                    the paper's tables: paper_cells, paper_lines, paper_effects; its shapes: paper_shapes,
                         paper_optimum, paper_whole, paper_finding; the cards of their sweeps: paper_card, paper_next
labelfree                what a selection without labels cost
lambda_                  λ: losses, lambda_rate, lambda_labelfree
slices                   enough_slices, step_cost
architectures            lineup, encoder_costs, encoder_tiers, encoder_front, encoder_budgets, encoder_tuning
scaling                  laws and rules across scale: scaling_lines, scaling_laws, scaling_tables, scaling_rules
heuristics               heuristics_answer, heuristics_tables, recipes
methods                  arms side by side: budget, rates, robustness and conditions
tuning                   searches, defaults; importance
factor                   any other factor, and what sections share about cells
diagnostics, caveats, reproduce, checklist
differs, compared_card   of two sweeps side by side
"""
