// nmllm_add with its memories; `load_memory` 0 residual, 1 operand.
`default_nettype none

module nmllm_add_tb #(
    parameter  int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter  int unsigned LATENCY = nmllm_pkg::VECTOR_LATENCY,
    localparam int unsigned ADDRESS_BITS = 10
) (
    input  logic                           clk,
    input  logic                           rst,
    input  logic                           load_valid,
    input  logic                           load_memory,
    input  logic        [ADDRESS_BITS-1:0] load_address,
    input  logic [LANES-1:0][        31:0] load_data,
    input  logic                           start,
    input  logic        [            14:0] size,
    input  logic        [ADDRESS_BITS-1:0] residual_base,
    input  logic        [ADDRESS_BITS-1:0] operand_base,
    output logic                           done,
    output logic                           write_enable,
    output logic        [ADDRESS_BITS-1:0] write_address,
    output logic [LANES-1:0][        31:0] write_data,
    output logic        [            47:0] count_elements,
    output logic        [            47:0] count_words_read,
    output logic        [            47:0] count_words_written
);
  logic read_enable, residual_load;
  logic [ADDRESS_BITS-1:0] residual_address, operand_address;
  logic [LANES-1:0][31:0] residual_data, operand_data;

  assign residual_load = load_valid && !load_memory;

  nmllm_add #(
      .LANES(LANES),
      .LATENCY(LATENCY),
      .ADDRESS_BITS(ADDRESS_BITS)
  ) u_add (
      .*
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_residual (
      .clk,
      .write_enable(residual_load || write_enable),
      .write_address(residual_load ? load_address : write_address),
      .write_data(residual_load ? load_data : write_data),
      .read_enable,
      .read_address(residual_address),
      .read_data(residual_data)
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_operand (
      .clk,
      .write_enable(load_valid && load_memory),
      .write_address(load_address),
      .write_data(load_data),
      .read_enable,
      .read_address(operand_address),
      .read_data(operand_data)
  );
endmodule

`default_nettype wire
