// Rows of one read of a row block: the first ACTIVE_ROWS of those that are driven. Combinational; without `pick` all are left.
`default_nettype none

module nmllm_row_pick
  import nmllm_pkg::*;
#(
    localparam int unsigned COUNT_BITS = $clog2(ACTIVE_ROWS + 1)
) (
    input  logic                  pick,
    input  logic [      ROWS-1:0] driven,
    output logic [      ROWS-1:0] picked,
    output logic [      ROWS-1:0] left,
    output logic [COUNT_BITS-1:0] count    // of those picked
);
  always_comb begin
    left  = driven;
    count = '0;
    if (pick) begin
      if (ACTIVE_ROWS >= ROWS) begin
        count = COUNT_BITS'($countones(driven));
        left  = '0;
      end else begin
        // verilator unroll_disable
        for (int n = 0; n < ACTIVE_ROWS; n++) begin
          if (left != '0) count = count + 1'b1;
          left = left & (left - 1'b1);
        end
      end
    end
    picked = driven & ~left;
  end
endmodule

`default_nettype wire
