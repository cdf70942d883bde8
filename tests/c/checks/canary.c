/* Leaks one control on purpose: a checker that says nothing about it is not on. Not part of the harness. */
#include <gomlx.h>

int main(void)
{
    return gomlx_control_new() == 0;
}
