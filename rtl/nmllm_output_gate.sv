// Gated product silu(g) * u of the output stage, two pairs per cycle (numerics.md, Gated feed-forward). Six stages, moving with `advance`:
// distance from zero, table, interpolation, silu, product, shift. `in_last` and `in_single` travel along.
`default_nettype none

module nmllm_output_gate
  import nmllm_pkg::*;
(
    input  logic               clk,
    input  logic               rst,
    input  logic               advance,
    input  logic        [ 5:0] gate_fraction,    // at least 12
    input  logic        [ 5:0] hidden_fraction,
    input  logic               in_valid,
    input  logic               in_last,
    input  logic               in_single,
    input  logic signed [31:0] in_gate        [2],
    input  logic signed [31:0] in_up          [2],
    output logic               out_valid,
    output logic               out_last,
    output logic               out_single,
    output logic signed [31:0] out_value      [2]
);
  localparam int unsigned STAGES = 6;

  logic [STAGES:1] valid, last, single;
  logic signed [31:0] gate_1[2], gate_2[2], gate_3[2], up_1[2], up_2[2], up_3[2], up_4[2];
  logic [15:0] distance[2], base[2], sigmoid[2];
  logic [23:0] rise[2];
  logic signed [32:0] silu[2];
  logic signed [63:0] product[2];
  logic signed [7:0] shift;
  logic [5:0] distance_shift;
  assign distance_shift = gate_fraction - 6'd12;
  assign shift = signed'({1'b0, gate_fraction, 1'b0}) - signed'({2'b0, hidden_fraction});

  function automatic logic [15:0] distance_of(input logic signed [31:0] x, input logic [5:0] n);
    logic [63:0] magnitude, rounded;
    magnitude = x < 0 ? 64'(-33'(x)) & 64'h1_ffff_ffff : 64'(x);
    rounded = n == 0 ? magnitude : (magnitude + (64'd1 << (n - 6'd1))) >> n;
    distance_of = rounded > 64'hffff ? 16'hffff : rounded[15:0];
  endfunction

  function automatic logic signed [31:0] shift_saturate(input logic signed [63:0] x, input logic signed [7:0] n);
    logic signed [63:0] y;
    if (n > 62) y = '0;
    else if (n > 0) y = (x + (64'sd1 <<< (n - 8'sd1))) >>> n;
    else begin
      // Beyond 2^31 any left shift saturates, and so does any value but 0 from 31 places on.
      y = x > 64'sh8000_0000 ? 64'sh8000_0000 : x < -64'sh8000_0000 ? -64'sh8000_0000 : x;
      y = n < -31 ? y <<< 31 : y <<< -n;
      if (n == 0) y = x;
    end
    if (y > 64'sh7fff_ffff) shift_saturate = 32'sh7fff_ffff;
    else if (y < -64'sh8000_0000) shift_saturate = 32'sh8000_0000;
    else shift_saturate = y[31:0];
  endfunction

  always_ff @(posedge clk) begin
    if (advance) begin
      valid  <= {valid[STAGES-1:1], in_valid};
      last   <= {last[STAGES-1:1], in_last};
      single <= {single[STAGES-1:1], in_single};
      for (int i = 0; i < 2; i++) begin
        if (in_valid) begin
          gate_1[i] <= in_gate[i];
          up_1[i] <= in_up[i];
          distance[i] <= distance_of(in_gate[i], distance_shift);
        end
        if (valid[1]) begin
          gate_2[i] <= gate_1[i];
          up_2[i] <= up_1[i];
          base[i] <= SIG[9'(distance[i][15:8])];
          rise[i] <= 24'(SIG[9'(distance[i][15:8])+9'd1] - SIG[9'(distance[i][15:8])]) * 24'(distance[i][7:0]);
        end
        if (valid[2]) begin
          gate_3[i] <= gate_2[i];
          up_3[i] <= up_2[i];
          sigmoid[i] <= gate_2[i] < 0 ? 16'h8000 - (base[i] + 16'((rise[i] + 24'h80) >> 8)) : base[i] + 16'((rise[i] + 24'h80) >> 8);
        end
        if (valid[3]) begin
          up_4[i] <= up_3[i];
          silu[i] <= 33'((64'(gate_3[i]) * signed'({48'd0, sigmoid[i]}) + 64'sh4000) >>> 15);
        end
        if (valid[4]) product[i] <= 64'(silu[i]) * 64'(up_4[i]);
        if (valid[5]) out_value[i] <= shift_saturate(product[i], shift);
      end
    end
    if (rst) valid <= '0;
  end

  assign out_valid = valid[STAGES];
  assign out_last = last[STAGES];
  assign out_single = single[STAGES];
endmodule

`default_nettype wire
